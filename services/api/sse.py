"""Server-Sent Events: framing, keep-alive, and an honest end.

A body never ends cleanly without ``done``: when the gateway drains, the caller's token ends, or the
stream was rewound, the last event is ``reconnect`` with a ``retry:`` that spreads clients over a
second.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import Final

from litestar.response import Stream

from services.api.feed import Feed
from services.api.follower import Follower
from services.api.jobs import events_of
from services.api.stream_leases import Lease
from shared.codec import Record, sse_frame
from shared.hot_state import Job
from shared.thread_log import Thread

MEDIA_TYPE: Final = "text/event-stream"
RECONNECT_MS_MIN, RECONNECT_MS_MAX = 100, 1100
PING: Final = b": ping\n\n"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold tokens back
}
_SEQ: Final[Callable[[Record], int]] = attrgetter("seq")
_POSITION: Final[Callable[[Record], int]] = attrgetter("position")


def event_stream(body: AsyncIterator[bytes], *, headers: dict[str, str] | None = None) -> Stream:
    return Stream(
        body, media_type=MEDIA_TYPE, headers={**HEADERS, **(headers or {})}, status_code=200
    )


def job_stream(
    feed: Feed, job: Job, lease: Lease, *, after: int, until: int
) -> AsyncIterator[bytes]:
    """The job's events behind a seq; ends after ``done``, or when the caller's token does."""
    if job.is_over and after >= job.last_seq:
        return _nothing(lease)
    place, wanted = job.first + after, events_of(job, after=after)
    following = feed.follow(job.thread_id, after=place, wanted=wanted)
    return _stream(following, lease, _SEQ, last="done", until=until)


def thread_stream(
    feed: Feed, thread: Thread, lease: Lease, *, after: int, until: int
) -> AsyncIterator[bytes]:
    """The thread's events behind a position; ends with the thread, or with the caller's token."""
    following = feed.follow(thread.thread_id, after=after)
    return _stream(following, lease, _POSITION, last="thread.deleted", until=until)


async def _stream(
    following: AbstractContextManager[Follower],
    lease: Lease,
    cursor: Callable[[Record], int],
    *,
    last: str,
    until: int,
) -> AsyncIterator[bytes]:
    with lease, following as follower:
        while time.time() < until:
            records = await follower.next()
            if records:
                frames = b"".join([sse_frame(cursor(record), record) for record in records])
                is_over = any(record.type == last for record in records)
                del records  # the client may take its time
                yield frames
                if is_over:
                    return
            elif follower.ended:
                break
            else:
                yield PING
    yield reconnect_frame()


async def _nothing(lease: Lease) -> AsyncIterator[bytes]:
    with lease:
        for chunk in ():
            yield chunk


def reconnect_frame() -> bytes:
    """Asks the client to come back, with its cursor, after a moment of its own."""
    retry = random.randint(RECONNECT_MS_MIN, RECONNECT_MS_MAX)
    return b"event: reconnect\nretry: %d\ndata: {}\n\n" % retry
