"""The log's reading side: threads, jobs and events as Redis holds them now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from shared.codec import Record, record_from_entry
from shared.ids import partition_of, partition_of_thread
from shared.keys import PartitionKeys
from shared.redis_client import Redis, translate
from shared.states import FINAL_STATUSES
from shared.thread_log import READ, Thread, split_users

READ_COUNT_MAX: Final = 500  # entries per read: about 10 ms of the server's time


@dataclass(frozen=True, slots=True)
class Job:
    """A job as Redis or Postgres knows it. ``done`` is the JSON of its last event, if it ended."""

    job_id: str
    thread_id: str
    owner: str
    status: str
    attempt: int
    last_seq: int
    first: int  # position of the job's message; its events stand behind it
    reply_id: str
    trace_id: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    done: bytes | None
    is_settled: bool = False  # its events are kept no longer

    @property
    def is_over(self) -> bool:
        return self.status in FINAL_STATUSES


class HotState:
    """Reads. Raises LogUnavailable; None and empty mean: not, or no longer, in Redis."""

    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis = redis
        self._partitions = partitions

    @property
    def partitions(self) -> int:
        return self._partitions

    def keys(self, thread_id: str) -> PartitionKeys:
        return PartitionKeys(partition_of_thread(thread_id, self._partitions))

    async def thread(self, thread_id: str) -> Thread | None:
        return (await self.threads([thread_id]))[0]

    async def threads(self, thread_ids: Sequence[str]) -> list[Thread | None]:
        """Several threads in one round trip, in order."""
        with translate():
            pipeline = self._redis.pipeline(transaction=False)
            for thread_id in thread_ids:
                pipeline.hgetall(self.keys(thread_id).thread(thread_id))
            replies = cast("list[dict[bytes, bytes]]", await pipeline.execute())
        return [
            _thread(thread_id, fields) if b"owner" in fields else None
            for thread_id, fields in zip(thread_ids, replies, strict=True)
        ]

    async def job(self, job_id: str) -> Job | None:
        name = PartitionKeys(partition_of(job_id)).job(job_id)
        with translate():
            fields = cast("dict[bytes, bytes]", await cast("Any", self._redis.hgetall(name)))
        return _job(job_id, fields) if b"status" in fields else None

    async def open_jobs(self, thread_id: str) -> list[str]:
        """The ids of a thread's jobs that run or wait, in order."""
        keys = self.keys(thread_id)
        with translate():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hget(keys.thread(thread_id), "active")
            pipeline.lrange(keys.thread_queue(thread_id), 0, -1)
            active, waiting = cast("tuple[bytes | None, list[bytes]]", await pipeline.execute())
        return [job_id.decode() for job_id in (active, *waiting) if job_id]

    async def is_verified(self, partition: int) -> bool:
        """Whether what Redis lost of the partition, if it lost anything, is back.

        From Postgres, and from workers: they notice within a lease and say it again.
        """
        if partition >= self._partitions:  # where nothing ever was
            return True
        keys = PartitionKeys(partition)
        with translate():
            pipeline = cast("Any", self._redis).pipeline(transaction=False)
            pipeline.hget(keys.meta, "verified")
            pipeline.exists(keys.recall)
            verified, is_recalled = await pipeline.execute()
        return verified == b"1" and not is_recalled

    async def records(
        self, thread_id: str, *, after: int, count: int = READ_COUNT_MAX
    ) -> list[Record]:
        """Events at the next ``count`` positions that Redis still holds, in order."""
        name = self.keys(thread_id).thread_events(thread_id)
        with translate():
            reply = await cast("Any", self._redis).xrange(
                name, min=f"{after + 1}-0", max=f"{after + count}-0", count=count
            )
        return [record_from_entry(entry_id, fields) for entry_id, fields in reply]

    async def records_of(
        self, after: Mapping[str, int], *, count: int = READ_COUNT_MAX
    ) -> dict[str, list[Record]]:
        """The next events of several threads behind their positions, in one round trip."""
        with translate():
            pipeline = self._redis.pipeline(transaction=False)
            for thread_id, position in after.items():
                name = self.keys(thread_id).thread_events(thread_id)
                pipeline.xrange(name, min=f"{position + 1}-0", max="+", count=count)
            replies = cast("list[list[tuple[bytes, dict[bytes, bytes]]]]", await pipeline.execute())
        return {
            thread_id: [record_from_entry(entry_id, fields) for entry_id, fields in entries]
            for thread_id, entries in zip(after, replies, strict=True)
        }

    async def dirty_threads(self, user: str) -> list[Thread]:
        """The user's threads whose latest change is not yet in Postgres."""
        with translate():
            pipeline = self._redis.pipeline(transaction=False)
            for partition in range(self._partitions):
                pipeline.smembers(PartitionKeys(partition).dirty(user))
            replies = cast("list[set[bytes]]", await pipeline.execute())
        thread_ids = [member.decode() for members in replies for member in members]
        if not thread_ids:
            return []
        return [thread for thread in await self.threads(thread_ids) if thread is not None]


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = fields.get(name, b"")
    return value.decode() if value else None


def _thread(thread_id: str, fields: Mapping[bytes, bytes]) -> Thread:
    return Thread(
        thread_id=thread_id,
        owner=fields[b"owner"].decode(),
        participants=split_users(_text(fields, b"participants")),
        state=cast("Any", fields[b"state"].decode()),
        status=cast("Any", fields[b"status"].decode()),
        title=_text(fields, b"title"),
        agent=_text(fields, b"agent"),
        created_at=fields[b"created_at"].decode(),
        updated_at=fields[b"updated_at"].decode(),
        position=int(fields[b"position"]),
        seq=int(fields[b"seq"]),
        archived=int(fields.get(b"archived", b"0")),
        processing=int(fields.get(b"processing", b"0")),
        active_job_id=_text(fields, b"active"),
        metadata=json.loads(fields.get(b"metadata") or b"{}"),
        reads={
            name.decode().removeprefix(READ): int(position)
            for name, position in fields.items()
            if name.startswith(READ.encode())
        },
    )


def _job(job_id: str, fields: Mapping[bytes, bytes]) -> Job:
    return Job(
        job_id=job_id,
        thread_id=fields[b"thread"].decode(),
        owner=fields[b"owner"].decode(),
        status=fields[b"status"].decode(),
        attempt=int(fields[b"attempt"]),
        last_seq=int(fields[b"seq"]),
        first=int(fields[b"first"]),
        reply_id=fields[b"reply"].decode(),
        trace_id=fields[b"trace"].decode(),
        created_at=fields[b"created_at"].decode(),
        started_at=_text(fields, b"started_at"),
        finished_at=_text(fields, b"finished_at"),
        done=fields.get(b"done"),
    )
