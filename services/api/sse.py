"""Server-Sent Events: framing, keep-alive, and an honest end.

A body never ends cleanly without ``done``: when the gateway drains, the last event is ``reconnect``
with a ``retry:`` that spreads clients over a second.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Final

from litestar.response import Stream

from services.api.feed import Feed
from services.api.jobs import of_job
from shared.codec import sse_frame
from shared.hot_state import Job
from shared.thread_log import Thread

RECONNECT_MS_MIN, RECONNECT_MS_MAX = 100, 1100
PING: Final = b": ping\n\n"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold tokens back
}


def event_stream(body: AsyncIterator[bytes], *, headers: dict[str, str] | None = None) -> Stream:
    return Stream(
        body,
        media_type="text/event-stream",
        headers={**HEADERS, **(headers or {})},
        status_code=200,
    )


def reconnect_frame() -> bytes:
    """Asks the client to come back, with its cursor, after a moment of its own."""
    retry = random.randint(RECONNECT_MS_MIN, RECONNECT_MS_MAX)
    return b"event: reconnect\nretry: %d\ndata: {}\n\n" % retry


async def job_stream(feed: Feed, job: Job, *, after: int) -> AsyncIterator[bytes]:
    """The job's events behind a seq; ends after ``done``."""
    place, top = job.first + after, job.first + job.last_seq
    if job.is_over and after >= job.last_seq:
        return
    with feed.follow(job.thread_id, after=place, top=top) as follower:
        async for records in of_job(job, follower, after=after):
            yield b"".join([sse_frame(r.seq, r) for r in records]) if records else PING
        if follower.draining:
            yield reconnect_frame()


async def thread_stream(feed: Feed, thread: Thread, *, after: int) -> AsyncIterator[bytes]:
    """The thread's events behind a position; ends when the thread is deleted."""
    with feed.follow(thread.thread_id, after=after, top=thread.position) as follower:
        while not follower.draining:
            records = await follower.next()
            if records:
                yield b"".join([sse_frame(r.position, r) for r in records])
                if any(record.type == "thread.deleted" for record in records):
                    return
            elif not follower.draining:
                yield PING
        yield reconnect_frame()
