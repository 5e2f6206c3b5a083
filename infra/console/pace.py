"""Plays events again at the pace they came, or a multiple of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

PAUSE_SECONDS_MAX: Final = 30.0  # of silence between two events: longer ones are cut to it


class Pace:
    """``await keep(at)`` before showing the event of that time.

    Times are planned from the first event on, so that what a wait is late does not add up. An event
    that is late already, as in a job that still runs, is not waited for.
    """

    def __init__(
        self, speed: float, *, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._speed, self._clock, self._sleep = speed, clock, sleep
        self._last: datetime | None = None
        self._due = 0.0

    async def keep(self, at: str) -> None:
        moment = datetime.fromisoformat(at)
        if self._last is None:
            self._due = self._clock()
        else:
            silence = (moment - self._last).total_seconds()
            self._due += min(max(silence, 0.0), PAUSE_SECONDS_MAX) / self._speed
        self._last = moment
        left = self._due - self._clock()
        if left > 0:
            await self._sleep(left)
