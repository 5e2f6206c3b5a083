"""One picture of the log, painted twice: as the model expects it and as a server holds it.

Everything a script may change is in it, so that comparing the two pictures after every step leaves
nothing unseen: hashes, streams, queues, who a command is pending for, and what may expire.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from shared.keys import ORCHESTRATORS, PERSISTERS, PartitionKeys
from shared.redis_client import Redis
from shared.thread_log import READ
from tests.support.log_model import LogModel
from tests.support.log_state import ModelJob, ModelPartition, ModelThread

PENDING_MAX = 1000
View = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subjects:
    """Whose keys to look at: partition by thread and by job, and the users."""

    threads: Mapping[str, int]
    jobs: Mapping[str, int]
    users: tuple[str, ...]
    partitions: int


def expected(model: LogModel, subjects: Subjects) -> View:
    return {
        "threads": {name: _model_thread(model.threads.get(name)) for name in subjects.threads},
        "jobs": {name: _model_job(model.jobs[name]) for name in subjects.jobs},
        "partitions": [_model_partition(model, stream) for stream in model.partitions],
        "dirty": {
            user: sorted(thread for owner, thread in model.dirty if owner == user)
            for user in subjects.users
        },
    }


def _model_thread(thread: ModelThread | None) -> View | None:
    if thread is None or not thread.is_kept:
        return None
    return {
        "owner": thread.owner,
        "state": thread.state,
        "title": thread.title or "",
        "participants": "\n".join(thread.participants),
        "reads": dict(thread.reads),
        "position": thread.position,
        "seq": thread.seq,
        "changed": thread.changed,
        "archived": thread.archived,
        "processing": thread.processing,
        "active": thread.active or "",
        "queue": list(thread.queue),
        "expires": thread.expires,
        "events": [event.place for event in thread.events if event.position > thread.kept_after],
    }


def _model_job(job: ModelJob) -> View | None:
    if not job.is_kept:
        return None
    return {
        "status": job.status,
        "attempt": job.attempt,
        "handovers": job.handovers,
        "seq": job.seq,
        "first": job.first,
        "thread": job.thread_id,
        "cancel": job.cancel,
        "expires": job.expires,
    }


def _model_partition(model: LogModel, stream: ModelPartition) -> View:
    return {
        "commands": [(job_id, model.jobs[job_id].holder or "") for job_id in stream.commands],
        "dead": list(stream.dead),
        "log": [(thread, event.place) for thread, event in stream.log[stream.trimmed :]],
        "pending": [
            (thread, event.position)
            for index, (thread, event) in enumerate(stream.log)
            if index in stream.pending
        ],
    }


async def observed(redis: Redis, subjects: Subjects) -> View:
    """Everything in one round trip, so that a step of a test costs one."""
    pipeline: Any = redis.pipeline(transaction=False)
    for thread_id, number in subjects.threads.items():
        _ask_thread(pipeline, PartitionKeys(number), thread_id)
    for job_id, number in subjects.jobs.items():
        pipeline.hgetall(PartitionKeys(number).job(job_id))
        pipeline.pttl(PartitionKeys(number).job(job_id))
    for number in range(subjects.partitions):
        _ask_partition(pipeline, PartitionKeys(number))
    for user in subjects.users:
        for number in range(subjects.partitions):
            pipeline.smembers(PartitionKeys(number).dirty(user))
    replies = iter(await pipeline.execute())
    return {
        "threads": {name: _thread(*islice(replies, 5)) for name in subjects.threads},
        "jobs": {name: _job(*islice(replies, 2)) for name in subjects.jobs},
        "partitions": [_partition(*islice(replies, 5)) for _ in range(subjects.partitions)],
        "dirty": {user: _dirty(islice(replies, subjects.partitions)) for user in subjects.users},
    }


def _ask_thread(pipeline: Any, keys: PartitionKeys, thread_id: str) -> None:
    pipeline.hgetall(keys.thread(thread_id))
    pipeline.lrange(keys.thread_queue(thread_id), 0, -1)
    pipeline.xrange(keys.thread_events(thread_id))
    pipeline.pttl(keys.thread(thread_id))
    pipeline.pttl(keys.thread_events(thread_id))


def _ask_partition(pipeline: Any, keys: PartitionKeys) -> None:
    for stream, group in ((keys.commands, ORCHESTRATORS), (keys.log, PERSISTERS)):
        pipeline.xrange(stream)
        pipeline.xpending_range(stream, group, "-", "+", PENDING_MAX)
    pipeline.xrange(keys.dead)


def _thread(fields: Any, queue: Any, entries: Any, ttl: int, events_ttl: int) -> View | None:
    if not fields:
        assert not queue
        assert not entries
        return None
    if entries:
        assert (ttl > 0) == (events_ttl > 0), "a thread and its events leave together"
    texts = _texts(fields, ("owner", "state", "title", "participants", "active"))
    numbers = _numbers(fields, ("position", "seq", "changed", "archived", "processing"))
    return {
        **texts,
        **numbers,
        "reads": {
            name.decode().removeprefix(READ): int(position)
            for name, position in fields.items()
            if name.startswith(READ.encode())
        },
        "queue": [job_id.decode() for job_id in queue],
        "expires": ttl > 0,
        "events": [(int(entry.split(b"-")[0]), *_place(row)) for entry, row in entries],
    }


def _job(fields: Any, ttl: int) -> View | None:
    if not fields:
        return None
    return {
        **_texts(fields, ("status", "thread")),
        **_numbers(fields, ("attempt", "handovers", "seq", "first")),
        "cancel": b"cancel" in fields,
        "expires": ttl > 0,
    }


def _partition(commands: Any, held: Any, log: Any, unacked: Any, dead: Any) -> View:
    holders = {row["message_id"]: row["consumer"].decode() for row in held}
    positions = {entry: (row[b"h"].decode(), int(row[b"p"])) for entry, row in log}
    pending_for = [(row[b"j"].decode(), holders.pop(entry, "")) for entry, row in commands]
    assert not holders, "pending, but no longer in the command stream"
    return {
        "commands": pending_for,
        "dead": [row[b"j"].decode() for _, row in dead],
        "log": [(row[b"h"].decode(), (int(row[b"p"]), *_place(row))) for _, row in log],
        "pending": [positions.get(row["message_id"], "trimmed") for row in unacked],
    }


def _dirty(members: Iterable[set[bytes]]) -> list[str]:
    return sorted(member.decode() for part in members for member in part)


def _place(row: Mapping[bytes, bytes]) -> tuple[str, int, str]:
    return (row[b"j"].decode(), int(row[b"s"]), row[b"t"].decode())


def _texts(fields: Mapping[bytes, bytes], names: Iterable[str]) -> View:
    return {name: fields.get(name.encode(), b"").decode() for name in names}


def _numbers(fields: Mapping[bytes, bytes], names: Iterable[str]) -> View:
    return {name: int(fields.get(name.encode(), 0)) for name in names}
