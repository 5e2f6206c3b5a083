"""Asks Redis about a limit: whoever cannot be told to be over it is not.

A limit must not cost more than what it protects. A Redis that fails, or does not answer within
ANSWER_SECONDS_MAX, is left alone: requests pass uncounted, and say themselves that Redis is away if
they need it. Every RETRY_SECONDS one of them asks for all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from shared.errors import LogUnavailable
from shared.observability import get_logger

ANSWER_SECONDS_MAX: Final = 1.0  # not less: a gateway that is busy itself must go on counting
RETRY_SECONDS: Final = 1.0

log = get_logger()

Told = TypeVar("Told")


class Lenient:
    """One per process. ``uncounted`` counts what passed without an answer."""

    def __init__(self) -> None:
        self._is_silent = False
        self._retry_at = 0.0
        self.uncounted = 0

    async def ask(self, question: Callable[[], Awaitable[Told]]) -> Told | None:
        """The answer; None when there is none in time."""
        if self._is_silent:
            if time.monotonic() < self._retry_at:
                self.uncounted += 1
                return None
            self._retry_at = time.monotonic() + RETRY_SECONDS
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                answer = await question()
        except (LogUnavailable, TimeoutError) as error:
            log.warning("limits not counted", reason=str(error) or "no answer in time")
            self._is_silent, self._retry_at = True, time.monotonic() + RETRY_SECONDS
            self.uncounted += 1
            return None
        self._is_silent = False
        return answer
