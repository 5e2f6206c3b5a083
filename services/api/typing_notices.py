"""What others are told of a client's typing.

A gateway that is killed takes nothing back, so a notice is good for TYPING_SECONDS, and clients say
it again while it is true.
"""

from __future__ import annotations

import time
from typing import Final

from services.api.frames import typing_frame
from services.api.presence import Attendances
from services.api.socket_requests import Visit
from shared.signals import Signal

TYPING_SECONDS: Final = 6.0
REPEAT_SECONDS: Final = 1.0


class TypingNotices:
    """Of one socket."""

    __slots__ = ("_attendances", "_is_typing", "_told_at", "_visit")

    def __init__(self, attendances: Attendances, visit: Visit) -> None:
        self._attendances, self._visit = attendances, visit
        self._is_typing, self._told_at = False, float("-inf")

    async def say(self, *, is_typing: bool) -> None:
        """The client says so; the same again within REPEAT_SECONDS is not told."""
        is_news = is_typing != self._is_typing
        if not is_news and time.monotonic() - self._told_at < REPEAT_SECONDS:
            return
        self._is_typing, self._told_at = is_typing, time.monotonic()
        visit = self._visit
        frame = typing_frame(visit.caller.user, visit.session_id, is_typing=is_typing)
        await self._attendances.tell(visit.thread_id, Signal(visit.socket_id, frame))

    async def stop(self) -> None:
        """The socket ends, and the typing with it."""
        if self._is_typing:
            await self.say(is_typing=False)
