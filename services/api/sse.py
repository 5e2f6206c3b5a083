"""Server-Sent Events: framing, keep-alive, and an honest end.

A body never ends cleanly without ``done``: when the gateway drains, the caller's token ends, or the
stream was rewound, the last event is ``reconnect`` with a ``retry:`` that spreads clients over a
second.

Who is taken out of a thread sees nothing that stands behind it: a thread's stream ends with that
event, a job's as above. Whoever has come back since, or reads of an earlier time, goes on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from litestar.response import Stream

from services.api.authentication import Caller
from services.api.feed import Feed
from services.api.follower import Follower, Wanted
from services.api.jobs import events_of
from services.api.stream_leases import Lease
from shared.codec import Record, decode_event, sse_frame
from shared.events import ParticipantLeft
from shared.hot_state import Job
from shared.thread_log import Thread

MEDIA_TYPE: Final = "text/event-stream"
RECONNECT_MS_MIN, RECONNECT_MS_MAX = 100, 1100
PING: Final = b": ping\n\n"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold tokens back
}
_LEFT: Final = "participant.left"
_SEQ: Final[Callable[[Record], int]] = attrgetter("seq")
_POSITION: Final[Callable[[Record], int]] = attrgetter("position")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who watches, how to ask whether they still may, and the place they take."""

    caller: Caller
    may_follow: Callable[[], Awaitable[bool]]
    lease: Lease

    def is_named(self, record: Record) -> bool:
        """Whether an event tells that they left."""
        if record.type != _LEFT:
            return False
        event = decode_event(record.data)
        return isinstance(event, ParticipantLeft) and event.user == self.caller.user


def event_stream(body: AsyncIterator[bytes], *, headers: dict[str, str] | None = None) -> Stream:
    return Stream(
        body, media_type=MEDIA_TYPE, headers={**HEADERS, **(headers or {})}, status_code=200
    )


def job_stream(feed: Feed, job: Job, *, after: int, viewer: Viewer) -> AsyncIterator[bytes]:
    """The job's events behind a seq; ends after ``done``, or when the viewer's right does."""
    if job.is_over and after >= job.last_seq:
        return _nothing(viewer.lease)
    place, shown = job.first + after, events_of(job, after=after)
    following = feed.follow(
        job.thread_id, after=place, wanted=lambda record: record.type == _LEFT or shown(record)
    )
    return _stream(following, _Form(_SEQ, "done", shown), viewer)


def thread_stream(
    feed: Feed, thread: Thread, *, after: int, viewer: Viewer
) -> AsyncIterator[bytes]:
    """The thread's events behind a position; ends with the thread, or with the viewer's right."""
    following = feed.follow(thread.thread_id, after=after)
    return _stream(following, _Form(_POSITION, "thread.deleted", lambda _: True), viewer)


@dataclass(frozen=True, slots=True)
class _Form:
    """What of a thread's events a stream shows, under which cursor, and which one is its last."""

    cursor: Callable[[Record], int]
    last: str
    shown: Wanted


async def _stream(
    following: AbstractContextManager[Follower], form: _Form, viewer: Viewer
) -> AsyncIterator[bytes]:
    until = viewer.caller.expires_at
    with viewer.lease, following as follower, _ending(follower, until):
        while time.time() < until:
            records = await follower.next()
            if records:
                left = await _leaving(records, viewer)
                shown = list(filter(form.shown, records if left is None else records[: left + 1]))
                frames = b"".join([sse_frame(form.cursor(record), record) for record in shown])
                is_over = any(record.type == form.last for record in shown)
                is_told = left is not None and shown[-1:] == [records[left]]
                del records, shown  # the client may take its time
                if frames:
                    yield frames
                if is_over or is_told:
                    return
                if left is not None:
                    break
            elif follower.ended:
                break
            else:
                yield PING
    yield reconnect_frame()


async def _leaving(records: list[Record], viewer: Viewer) -> int | None:
    """Which of the records takes the thread from the viewer, if any does for good."""
    left = next((place for place, each in enumerate(records) if viewer.is_named(each)), None)
    return None if left is None or await viewer.may_follow() else left


@contextmanager
def _ending(follower: Follower, until: int) -> Generator[None]:
    """The follower ends with the caller's token, also while nothing happens."""
    loop = asyncio.get_running_loop()
    timer = loop.call_later(max(0.0, until - time.time()), follower.end)
    try:
        yield
    finally:
        timer.cancel()


async def _nothing(lease: Lease) -> AsyncIterator[bytes]:
    with lease:
        for chunk in ():
            yield chunk


def reconnect_frame() -> bytes:
    """Asks the client to come back, with its cursor, after a moment of its own."""
    retry = random.randint(RECONNECT_MS_MIN, RECONNECT_MS_MAX)
    return b"event: reconnect\nretry: %d\ndata: {}\n\n" % retry
