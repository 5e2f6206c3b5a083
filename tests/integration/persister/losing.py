"""What Redis held before it lost something, and what it holds afterwards, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.batch import read_batch
from services.persister.restore import Restore
from services.persister.store import Store
from shared.commands import RunJob
from shared.ids import is_thread_id
from shared.keys import PERSISTERS, PartitionKeys
from shared.redis_client import Redis
from shared.retention import Retention
from shared.settings import Settings
from tests.integration.persister.running import eventually, is_consumed, running
from tests.integration.persister.writer import PARTITIONS, TTL_SECONDS, Writer

# Not the same afterwards. Of a thread: how far its lists and its processing had been told, which a
# restored one says of its last event, and which changes were sent lately. Of a job: where its
# command is, and whose it is, which a worker must prove.
OF_A_THREAD = {b"changed", b"moving", b"processing", b"requests"}
OF_A_JOB = {b"entry", b"owner_token", b"begun_by", b"worker"}

Image = dict[str, dict[str, Any]]


def restore_with(engine: AsyncEngine, redis: Redis) -> Restore:
    retention = Retention(redis, idle_ttl_seconds=TTL_SECONDS)
    return Restore(engine, redis, PARTITIONS, retention)


async def archive_by_persister(writer: Writer, settings: Settings) -> None:
    """All that is in the log; the persister has reported it and is gone again."""
    async with running(settings):
        await eventually(lambda: is_consumed(writer.redis))


async def archive_now(writer: Writer, engine: AsyncEngine) -> None:
    """All that is in the log and new; nothing is reported to Redis."""
    store = Store(engine)
    for partition in range(PARTITIONS):
        keys = PartitionKeys(partition)
        log, life = keys.log, await cast("Any", writer.redis).hget(keys.meta, "life")
        reply: Any
        while reply := await writer.redis.xreadgroup(PERSISTERS, "p", {log: ">"}, count=100):
            await store.commit(partition, read_batch(reply[0][1]), (life or b"").decode())


async def image(writer: Writer, commands: Iterable[RunJob]) -> Image:
    """Everything there is of the writer's threads and of these commands' jobs."""
    redis, found = cast("Any", writer.redis), Image()
    for thread_id in writer.threads:
        keys = writer.keys(thread_id)
        found[thread_id] = {
            "hash": await redis.hgetall(keys.thread(thread_id)),
            "events": await redis.xrange(keys.thread_events(thread_id)),
            "queue": await redis.lrange(keys.thread_queue(thread_id), 0, -1),
            "leaves": await redis.ttl(keys.thread(thread_id)) > 0,
        }
    for command in commands:
        name = writer.keys(command.thread_id).job(command.job_id)
        leaves = await redis.ttl(name) > 0
        found[command.job_id] = {"hash": await redis.hgetall(name), "leaves": leaves}
    return found


def changes(before: Image, after: Image) -> dict[str, Any]:
    """What is not as it was, of all that should be: (before, after) by key and field."""
    flat_before, flat_after = _flat(before), _flat(after)
    return {
        name: (flat_before.get(name), flat_after.get(name))
        for name in flat_before.keys() | flat_after.keys()
        if flat_before.get(name) != flat_after.get(name)
    }


def _flat(found: Image) -> dict[str, Any]:
    return {
        f"{name} {part} {field}": value
        for name, parts in found.items()
        for part, fields in parts.items()
        for field, value in (fields if isinstance(fields, dict) else {b"": fields}).items()
        if field not in (OF_A_THREAD if is_thread_id(name) else OF_A_JOB)
    }


async def commands_of(writer: Writer, command: RunJob) -> list[bytes]:
    """The entries that hand out the job, oldest first."""
    entries: Any = await writer.redis.xrange(writer.keys(command.thread_id).commands)
    return [entry for entry, fields in entries if fields[b"j"].decode() == command.job_id]


async def command_entries(redis: Redis) -> list[Any]:
    """The command streams of all partitions."""
    return [await redis.xrange(PartitionKeys(each).commands) for each in range(PARTITIONS)]
