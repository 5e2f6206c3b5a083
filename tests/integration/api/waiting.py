"""Waiting for what must come about: never for longer than it may take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

WAIT_SECONDS_MAX = 15.0
STEP_SECONDS = 0.01
Result = TypeVar("Result")


async def eventually(condition: Callable[[], Awaitable[Any] | Any]) -> None:
    """Wait until the condition holds. An AssertionError inside it is told when time is up."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while True:
        reason: AssertionError | None = None
        try:
            held = condition()
            held = await held if isinstance(held, Awaitable) else held
        except AssertionError as error:
            held, reason = False, error
        if held is None or held:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen in {WAIT_SECONDS_MAX} s") from reason
        await asyncio.sleep(STEP_SECONDS)


async def soon(awaited: Awaitable[Result]) -> Result:
    """The result, which must not take long."""
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            return await awaited
    except TimeoutError:
        raise AssertionError(f"nothing came in {WAIT_SECONDS_MAX} s") from None
