"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

SECONDS_MAX = 15.0
STEP_SECONDS = 0.01


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float | None = None) -> None:
    """Return as soon as it holds; fail when it still does not after so long."""
    seconds = seconds or SECONDS_MAX
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        await asyncio.sleep(STEP_SECONDS)
