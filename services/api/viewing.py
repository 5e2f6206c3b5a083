"""What a client is shown of a thread, and why it ends; whatever form it gets it in.

    follower ──▶ Viewing: what is meant for this client ──▶ Server-Sent Events, frames

Who is taken out of a thread sees nothing that stands behind it. Whoever has come back since, or
reads of an earlier time, goes on. Who is let in by a token sees nothing behind its end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from services.api.authentication import Caller
from services.api.follower import Follower, Wanted
from shared.codec import Record, decode_event
from shared.events import ParticipantLeft

LEFT: Final = "participant.left"
RECONNECT_MS_MIN, RECONNECT_MS_MAX = 100, 1100  # in which clients come back, at random


class End(Enum):
    OVER = "its last event was given"
    TAKEN_OUT = "the event that takes the viewer out was given"
    EXPIRED = "the viewer's token has"
    AGAIN = "come back with the cursor"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who watches, and how to ask whether they still may."""

    caller: Caller
    may_follow: Callable[[], Awaitable[bool]]

    def is_named(self, record: Record) -> bool:
        """Whether an event tells that they left."""
        if record.type != LEFT:
            return False
        event = decode_event(record.data)
        return isinstance(event, ParticipantLeft) and event.user == self.caller.user


@dataclass(frozen=True, slots=True)
class View:
    """Which of a thread's events are shown, and which one of them is the last."""

    last: str
    shown: Wanted


WHOLE_THREAD: Final = View("thread.deleted", lambda _: True)


class Viewing:
    """One client's look at a thread through a follower, for the length of a block.

    ``end`` tells why there is no more.
    """

    __slots__ = ("_expired", "_expiry", "_follower", "_view", "_viewer", "end")

    def __init__(self, follower: Follower, view: View, viewer: Viewer) -> None:
        self._follower, self._view, self._viewer = follower, view, viewer
        self._expired = False
        self._expiry: asyncio.TimerHandle | None = None
        self.end: End | None = None

    def __enter__(self) -> None:
        """Ends with the caller's token, also while nothing happens."""
        seconds = max(0.0, self._viewer.caller.expires_at - time.time())
        self._expiry = asyncio.get_running_loop().call_later(seconds, self._expire)

    def __exit__(self, *_: object) -> None:
        if self._expiry is not None:
            self._expiry.cancel()

    async def next(self) -> list[Record]:
        """The next events; empty at the end, and when the follower has something else to tell."""
        while self.end is None:
            records = [] if self._expired else await self._follower.next()
            if not records:
                if self._follower.ended:
                    self.end = End.EXPIRED if self._expired else End.AGAIN
                break
            if shown := await self._shown(records):
                return shown
        return []

    def leave(self) -> None:
        """The client is gone."""
        self._follower.end()

    def _expire(self) -> None:
        self._expired = True
        self._follower.end()

    async def _shown(self, records: list[Record]) -> list[Record]:
        left = await self._leaving(records)
        seen = records if left is None else records[: left + 1]
        shown = list(filter(self._view.shown, seen))
        if any(record.type == self._view.last for record in shown):
            self.end = End.OVER
        elif left is not None:
            is_told = shown[-1:] == [records[left]]
            self.end = End.TAKEN_OUT if is_told else End.AGAIN
        return shown

    async def _leaving(self, records: list[Record]) -> int | None:
        """Which of the records takes the thread from the viewer, if any does for good."""
        named = (place for place, each in enumerate(records) if self._viewer.is_named(each))
        left = next(named, None)
        return None if left is None or await self._viewer.may_follow() else left
