"""What Redis and Postgres hold of some threads, read past the services, for the history."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

import psycopg
from redis.exceptions import ResponseError

from shared.ids import partition_of_thread
from shared.keys import ORCHESTRATORS, PERSISTERS, PartitionKeys
from shared.redis_client import Redis
from shared.settings import Settings
from tests.faults.history import History

PARTITIONS: int = Settings.model_fields["partitions"].default
ENTRIES_PER_READ = 500

Page = list[tuple[bytes, dict[bytes, bytes]]]

ARCHIVE = """
SELECT position, stream_id, seq, data::text FROM events WHERE thread_id = %s ORDER BY position
"""
MESSAGE = """
SELECT content, status FROM messages WHERE job_id = %s AND role = 'assistant'
"""


async def group_states(redis: Redis) -> list[dict[str, Any]]:
    """Of both groups in every partition: how many entries are pending, and whether some are unread.

    `unread` is not the server's `lag`, which is not to be had once entries have been deleted.
    """
    states: list[dict[str, Any]] = []
    for keys in map(PartitionKeys, range(PARTITIONS)):
        for stream, group in ((keys.commands, ORCHESTRATORS), (keys.log, PERSISTERS)):
            state: dict[str, Any] = {"group": group, "partition": keys.partition}
            try:
                found = {one["name"]: one for one in await redis.xinfo_groups(stream)}
                one = found[group.encode()]
                behind = await redis.xrange(
                    stream, min=f"({one['last-delivered-id'].decode()}", count=1
                )
                state |= {"pending": one["pending"], "unread": bool(behind)}
            except (ResponseError, KeyError) as error:  # the stream or its group is gone
                state |= {"pending": None, "unread": repr(error)}
            states.append(state)
    return states


async def dead_jobs(redis: Redis, history: History) -> None:
    """What stands in the dead-letter streams."""
    for keys in map(PartitionKeys, range(PARTITIONS)):
        entries = cast("Page", await redis.xrange(keys.dead))
        if entries:
            jobs = [fields.get(b"j", b"").decode() for _, fields in entries]
            history.add("dead", partition=keys.partition, job_ids=jobs)


async def redis_threads(redis: Redis, threads: Iterable[str], history: History) -> None:
    """The threads' streams, as far as Redis holds them."""
    for thread_id in threads:
        keys = PartitionKeys(partition_of_thread(thread_id, PARTITIONS))
        entries: list[dict[str, Any]] = []
        after = "-"
        stream = keys.thread_events(thread_id)
        while page := cast("Page", await redis.xrange(stream, min=after, count=ENTRIES_PER_READ)):
            entries += [_entry(entry_id, fields) for entry_id, fields in page]
            after = f"({page[-1][0].decode()}"
        history.add("redis", thread_id=thread_id, entries=entries)


def owned(postgres: psycopg.Connection, users: Iterable[str], history: History) -> set[str]:
    """Every job of these users; the threads they are in."""
    threads: set[str] = set()
    for user in sorted(users):
        query = "SELECT job_id, thread_id FROM jobs WHERE owner = %s"
        rows = postgres.execute(query, (user,)).fetchall()
        history.add("owned", user=user, job_ids=[job_id for job_id, _ in rows])
        threads |= {thread_id for _, thread_id in rows}
    return threads


def archived_threads(
    postgres: psycopg.Connection, threads: Iterable[str], history: History
) -> None:
    """The threads' events in Postgres, to the letter."""
    names = ("position", "stream", "seq", "data")
    for thread_id in threads:
        rows = postgres.execute(ARCHIVE, (thread_id,)).fetchall()
        entries = [dict(zip(names, row, strict=True)) for row in rows]
        history.add("archive", thread_id=thread_id, entries=entries)


def answers(postgres: psycopg.Connection, jobs: Iterable[str], history: History) -> None:
    """The assistant's messages in Postgres."""
    for job_id in jobs:
        for content, status in postgres.execute(MESSAGE, (job_id,)):
            history.add("message", job_id=job_id, content=content, status=status)


def resident_bytes(pid: int) -> int:
    """The memory a process has in use."""
    with open(f"/proc/{pid}/status") as file:
        found = re.search(r"VmRSS:\s+(\d+) kB", file.read())
    return int(found[1]) << 10 if found else 0


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> dict[str, Any]:
    return {
        "position": int(entry_id.split(b"-")[0]),
        "stream": fields[b"j"].decode(),
        "seq": int(fields[b"s"]),
        "data": fields[b"d"].decode(),
    }
