"""Threads that nobody asked in, put into the log as if they had been: whole jobs, one by one.

Redis itself knows nothing of such a thread; to the persister it is one like any other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from shared.codec import encode
from shared.events import Done, JobEvent, MessagePosted, Started, ThreadCreated, ThreadEvent, Token
from shared.ids import (
    new_job_id,
    new_message_id,
    new_thread_id,
    new_trace_id,
    partition_of_thread,
)
from shared.keys import PartitionKeys
from shared.redis_client import Redis, connect
from shared.times import utc_now
from tests.bench.rig import PARTITIONS

Fields = dict[bytes, bytes]
Packed = list[bytes]


@dataclass(frozen=True)
class Written:
    """Some events, as Redis takes them: nothing is left to be made when they are sent."""

    partition: int
    events: int
    packed: Packed


def thread_of(owner: str, *, turns: int, tokens: int) -> tuple[str, list[list[Fields]]]:
    """A thread's id, and the events of each of its turns. Each answer has so many token events."""
    thread_id = new_thread_id()
    created = ThreadCreated(
        thread_id=thread_id, at=utc_now(), owner=owner, title="Made up", agent="default"
    )
    first = _fields(thread_id, 1, thread_id, 1, created)
    written = [list(_turn(thread_id, owner, turn, tokens)) for turn in range(turns)]
    written[0].insert(0, first)
    return thread_id, written


def _turn(thread_id: str, owner: str, turn: int, tokens: int) -> Iterator[Fields]:
    """One question and its answer: tokens + 3 events."""
    partition, at = partition_of_thread(thread_id, PARTITIONS), utc_now()
    job_id, reply_id = new_job_id(partition), new_message_id(partition)
    position = 2 + turn * (tokens + 3)
    posted = MessagePosted(
        thread_id=thread_id, at=at, message_id=new_message_id(partition), job_id=job_id,
        reply_id=reply_id, user=owner, content="measure", agent="default", trace_id=new_trace_id(),
    )  # fmt: skip
    yield _fields(thread_id, position, thread_id, turn + 2, posted)
    of_job: dict[str, Any] = {"job_id": job_id, "attempt": 1, "at": at}
    said = [Token(**of_job, seq=seq, content="made up ", deltas=1) for seq in range(2, tokens + 2)]
    done = Done(
        **of_job, seq=tokens + 2, status="done", content="made up " * tokens, message_id=reply_id,
        finish_reason="stop", latency_ms=900,
    )  # fmt: skip
    for event in (Started(**of_job, seq=1, agent="default", model="made-up"), *said, done):
        yield _fields(thread_id, position + event.seq, job_id, event.seq, event)


def _fields(
    thread_id: str, position: int, stream: str, seq: int, event: JobEvent | ThreadEvent
) -> Fields:
    return {
        b"h": thread_id.encode(),
        b"p": b"%d" % position,
        b"j": stream.encode(),
        b"s": b"%d" % seq,
        b"t": event.type.encode(),
        b"d": encode(event),
    }


class LogFeed:
    """Puts made-up events into the log, at the cost of a socket's write."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def packed(self, thread_id: str, events: Sequence[Fields]) -> Written:
        partition = partition_of_thread(thread_id, PARTITIONS)
        log = PartitionKeys(partition).log
        commands = [
            ("XADD", log, "*", *(part for field in fields.items() for part in field))
            for fields in events
        ]
        return Written(partition, len(events), self._connection.pack_commands(commands))

    async def add(self, written: Written) -> list[bytes]:
        """The ids that the log gave them."""
        await self._connection.send_packed_command(written.packed, check_health=False)
        return [await self._connection.read_response() for _ in range(written.events)]


@asynccontextmanager
async def log_feed(redis_url: str) -> AsyncGenerator[LogFeed]:
    redis: Redis
    async with connect(redis_url) as redis:
        pool = cast("Any", redis.connection_pool)
        connection = await pool.get_connection()
        try:
            yield LogFeed(connection)
        finally:
            await pool.release(connection)
