"""Faults: entries in the streams that no service can make sense of."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, cast

from shared.codec import encode
from shared.commands import CancelJob, RunJob
from shared.dead_letters import DeadLetters
from shared.ids import (
    new_job_id,
    new_message_id,
    new_thread_id,
    new_trace_id,
    partition_of_thread,
)
from shared.keys import PartitionKeys
from shared.redis_client import Redis
from shared.times import utc_now
from tests.faults.stores import PARTITIONS

Fields = dict[bytes, bytes]

THREAD = new_thread_id()  # which nobody has
POISON_PARTITION = partition_of_thread(THREAD, PARTITIONS)


def commands() -> dict[str, Fields]:
    """One of each kind that does not belong in the command stream."""
    unknown_job = RunJob(
        job_id=new_job_id(POISON_PARTITION),
        thread_id=THREAD,
        message_id=new_message_id(POISON_PARTITION),
        reply_id=new_message_id(POISON_PARTITION),
        user="nobody",
        agent="quick",
        content="who am I?",
        trace_id=new_trace_id(),
        at=utc_now(),
    )
    incomplete = json.loads(encode(unknown_job))
    del incomplete["thread_id"]
    return {
        "bad JSON": {b"d": b'{"type":"RunJob",'},
        "unknown type": {b"d": b'{"type":"SweepTheFloor"}'},
        "unknown job": {b"d": encode(unknown_job)},
        "a cancellation": {b"d": encode(CancelJob(job_id=unknown_job.job_id))},
        "missing field": {b"d": json.dumps(incomplete).encode()},
        "not UTF-8": {b"d": b'{"type":"RunJob","content":"\xff\xfe"}'},
        "no command at all": {b"x": b"y"},
    }


def events() -> dict[str, Fields]:
    """One of each kind that does not belong in the log."""
    stream = new_job_id(POISON_PARTITION)

    def entry(data: bytes, **more: bytes) -> Fields:
        fields = {"h": THREAD.encode(), "p": b"1", "j": stream.encode(), "s": b"1", "t": b"done"}
        return {name.encode(): value for name, value in {**fields, "d": data, **more}.items()}

    return {
        "bad JSON": entry(b'{"type":"done",'),
        "another type than it says": entry(b'{"type":"thought"}'),
        "not UTF-8": entry(b'{"type":"\xff\xfe"}'),
        "token that is no JSON": entry(b"{", t=b"token"),
        "position that is no number": entry(b'{"type":"done"}', p=b"first"),
        "no event at all": {b"x": b"y"},
    }


async def put(redis: Redis, stream: str, entries: dict[str, Fields]) -> None:
    """Add the entries."""
    for fields in entries.values():
        await redis.xadd(stream, cast("Any", fields))


async def letters(redis: Redis) -> Counter[tuple[str, tuple[tuple[bytes, bytes], ...]]]:
    """All dead letters: kind and fields."""
    found: Counter[tuple[str, tuple[tuple[bytes, bytes], ...]]] = Counter()
    for partition in range(PARTITIONS):
        async for letter in DeadLetters(redis).letters(PartitionKeys(partition)):
            found[letter.kind, tuple(letter.fields)] += 1
    return found
