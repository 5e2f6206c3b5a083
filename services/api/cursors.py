"""Cursors: opaque in lists, numbers in streams, and refused when they are not ours.

A number ahead of its stream may be ours all the same: Redis has lost the stream's end, and gets it
back in a moment. So it is refused for good only when Redis is known to have what there is.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from services.api.problems import BadRequest
from shared.errors import LogUnavailable
from shared.hot_state import HotState, Job
from shared.thread_log import Thread

CURSOR_CHARS_MAX: Final = 128
_AT: Final = r"(?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"
_PLACE: Final = re.compile(rf"{_AT} (?P<id>thr_[0-9a-f]{{32}})")
_FOUND: Final = re.compile(rf"(?P<rank>\d) {_AT} (?P<id>msg_[0-9a-f]{{34}})")
_NUMBER: Final = re.compile(r"[0-9]{1,15}")

Streamed = TypeVar("Streamed", Job, Thread)


class ThreadCursor(NamedTuple):
    """A place in the list of threads; orders as the list does, newest last."""

    updated_at: str
    thread_id: str

    @classmethod
    def of(cls, thread: Thread) -> ThreadCursor:
        return cls(thread.updated_at, thread.thread_id)

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.updated_at)

    def encode(self) -> str:
        return _encoded(" ".join(self))

    @classmethod
    def decode(cls, text: str) -> ThreadCursor:
        """Raises BadRequest."""
        place = _decoded(_PLACE, text)
        return cls(place["at"], place["id"])


class FoundCursor(NamedTuple):
    """A place among what a search finds; orders as the answer does, best last."""

    rank: int
    created_at: str
    message_id: str

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.created_at)

    def encode(self) -> str:
        return _encoded(f"{self.rank} {self.created_at} {self.message_id}")

    @classmethod
    def decode(cls, text: str) -> FoundCursor:
        """Raises BadRequest."""
        place = _decoded(_FOUND, text)
        return cls(int(place["rank"]), place["at"], place["id"])


def _encoded(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _decoded(pattern: re.Pattern[str], text: str) -> dict[str, str]:
    """The parts of a place. Raises BadRequest for what was never given out."""
    try:
        padded = text[:CURSOR_CHARS_MAX].encode("ascii") + b"=" * (-len(text) % 4)
        place = base64.urlsafe_b64decode(padded).decode("ascii")
        found = pattern.fullmatch(place)
        if found is None or _encoded(place) != text:
            raise ValueError
        datetime.fromisoformat(found["at"])
    except ValueError:
        raise BadRequest("bad_cursor", "This cursor is not one of ours.") from None
    return found.groupdict()


def event_cursor(last_event_id: str | None, after: str | None) -> int:
    """Where a stream resumes: the header wins, since a browser sends it on a reconnect.

    Raises BadRequest for anything but a number from 0 up.
    """
    text = last_event_id if last_event_id else after
    if text is None:
        return 0
    if not _NUMBER.fullmatch(text):
        raise BadRequest("bad_cursor", "A cursor is the id of an event: a whole number from 0 up.")
    return int(text)


async def reached(
    hot: HotState,
    cursor: int,
    get: Callable[[], Awaitable[Streamed]],
    end: Callable[[Streamed], int],
) -> Streamed:
    """What ``get`` gives, once its stream has come as far as the cursor.

    Raises BadRequest for a cursor it has never given out, LogUnavailable while Redis may still get
    back what was there.
    """
    found = await get()
    if cursor <= end(found):
        return found
    if not await hot.is_verified(hot.keys(found.thread_id).partition):
        raise LogUnavailable("Redis lost the end of its log, which is being restored.")
    found = await get()  # it may have come back between the two looks
    if cursor > end(found):
        raise BadRequest("cursor_ahead", f"The stream has only {end(found)} events so far.")
    return found
