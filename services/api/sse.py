"""Server-Sent Events: framing, keep-alive, and an honest end.

A body never ends cleanly without ``done``: when the gateway drains, the caller's token ends, or the
stream was rewound, the last event is ``reconnect`` with a ``retry:`` that spreads clients over a
second. For who was taken out of a thread its stream ends with that event, a job's as above.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from operator import attrgetter
from typing import Final

from services.api.event_response import EventResponse
from services.api.feed import Feed
from services.api.follower import Follower, Wanted
from services.api.jobs import events_of
from services.api.stream_leases import Lease
from services.api.viewing import (
    LEFT,
    RECONNECT_MS_MAX,
    RECONNECT_MS_MIN,
    WHOLE_THREAD,
    End,
    View,
    Viewer,
    Viewing,
)
from shared.codec import Record, sse_frame
from shared.hot_state import Job
from shared.thread_log import Thread

MEDIA_TYPE: Final = "text/event-stream"
PING: Final = b": ping\n\n"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold tokens back
}
_SEQ: Final[Callable[[Record], int]] = attrgetter("seq")
_POSITION: Final[Callable[[Record], int]] = attrgetter("position")


async def event_stream(
    body: _Body | _Nothing, *, headers: dict[str, str] | None = None
) -> EventResponse:
    """The body is begun here, or what it holds would stay held when nobody ever reads it."""
    await anext(body.frames)
    fields = {**HEADERS, **(headers or {})}
    return EventResponse(body.frames, body.leave, media_type=MEDIA_TYPE, headers=fields)


def job_stream(
    feed: Feed, job: Job, *, after: int, viewer: Viewer, lease: Lease
) -> _Body | _Nothing:
    """The job's events behind a seq; ends after ``done``, or when the viewer's right does."""
    if job.is_over and after >= job.last_seq:
        return _Nothing(lease)
    place, shown = job.first + after, events_of(job.job_id, after=after)
    following = feed.follow(job.thread_id, after=place, wanted=_or_leaving(shown))
    return _Body(following, View("done", shown), _SEQ, viewer, lease)


def asked_stream(
    listening: ExitStack, follower: Follower, job_id: str, first: int, viewer: Viewer, lease: Lease
) -> _Body:
    """The events of a job that was asked, at a position, while the follower listened."""
    shown = events_of(job_id, after=0)
    follower.begin(first, _or_leaving(shown))
    following = _kept(listening, follower)
    return _Body(following, View("done", shown), _SEQ, viewer, lease)


def thread_stream(feed: Feed, thread: Thread, *, after: int, viewer: Viewer, lease: Lease) -> _Body:
    """The thread's events behind a position; ends with the thread, or with the viewer's right."""
    following = feed.follow(thread.thread_id, after=after)
    return _Body(following, WHOLE_THREAD, _POSITION, viewer, lease)


class _Body:
    """Frames of what is shown; begun, it holds the lease and the follower until it is closed."""

    def __init__(
        self,
        following: AbstractContextManager[Follower],
        view: View,
        cursor: Callable[[Record], int],
        viewer: Viewer,
        lease: Lease,
    ) -> None:
        self._viewing: Viewing | None = None
        self.frames = self._write(following, view, cursor, viewer, lease)

    def leave(self) -> None:
        if self._viewing is not None:
            self._viewing.leave()

    async def _write(
        self,
        following: AbstractContextManager[Follower],
        view: View,
        cursor: Callable[[Record], int],
        viewer: Viewer,
        lease: Lease,
    ) -> AsyncGenerator[bytes]:
        with lease, following as follower:
            viewing = self._viewing = Viewing(follower, view, viewer)
            yield b""
            with viewing:
                while viewing.end is None:
                    records = await viewing.next()
                    if records:
                        frames = b"".join([sse_frame(cursor(record), record) for record in records])
                        del records  # the client may take its time
                        yield frames
                    elif viewing.end is None:
                        yield PING
        if viewing.end in (End.AGAIN, End.EXPIRED):
            yield reconnect_frame()


class _Nothing:
    """The frames of a job that is over, for who has seen all of it."""

    def __init__(self, lease: Lease) -> None:
        self.frames = self._write(lease)

    def leave(self) -> None:
        """It is over at once."""

    async def _write(self, lease: Lease) -> AsyncGenerator[bytes]:
        with lease:
            yield b""


def _or_leaving(shown: Wanted) -> Wanted:
    return lambda record: record.type == LEFT or shown(record)


@contextmanager
def _kept(listening: ExitStack, follower: Follower) -> Generator[Follower]:
    with listening:
        yield follower


def reconnect_frame() -> bytes:
    """Asks the client to come back, with its cursor, after a moment of its own."""
    retry = random.randint(RECONNECT_MS_MIN, RECONNECT_MS_MAX)
    return b"event: reconnect\nretry: %d\ndata: {}\n\n" % retry
