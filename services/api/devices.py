"""Which devices of its users this gateway has seen, told to Redis once in a while.

A device that is in use is told of every TOUCH_SECONDS at most: its life is longer by far.

Failures
    Redis away   Not told: it is with the next request behind TOUCH_SECONDS.
"""

from __future__ import annotations

import time
from typing import Final

from services.api.authentication import Caller
from services.api.lenient import Lenient
from shared.sessions import Session, Sessions

TOUCH_SECONDS: Final = 60.0
REMEMBERED_MAX: Final = 10_000  # devices; of more, the first ones are told of again


class Devices:
    """One per process."""

    def __init__(self, sessions: Sessions, lenient: Lenient) -> None:
        self._sessions, self._lenient = sessions, lenient
        self._told_at: dict[tuple[str, str], float] = {}

    async def seen(self, caller: Caller) -> None:
        """A device does something; one that names itself not is not kept."""
        if caller.session_id is None:
            return
        device, now = (caller.user, caller.session_id), time.monotonic()
        if now - self._told_at.get(device, float("-inf")) < TOUCH_SECONDS:
            return
        self._told_at.pop(device, None)
        self._told_at[device] = now
        if len(self._told_at) > REMEMBERED_MAX:
            del self._told_at[next(iter(self._told_at))]
        await self._lenient.ask(lambda: self._sessions.use(*device))

    async def of(self, user: str) -> list[Session]:
        """Those that live, the last used first. Raises LogUnavailable."""
        return await self._sessions.of(user)
