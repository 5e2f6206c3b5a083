"""What tests look at from outside: the archive beside the stream, leases, times to live."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.commands import RunJob
from shared.keys import PERSISTERS, PartitionKeys
from shared.redis_client import Redis
from tests.integration.persister.tables import archive, expected_read_model, read_model
from tests.integration.persister.writer import PARTITIONS, Writer

WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")


async def assert_archived(writer: Writer, engine: AsyncEngine) -> None:
    """The archive is the stream, and the read model what the stream comes to."""
    histories = {thread_id: await writer.records(thread_id) for thread_id in writer.threads}
    assert await archive(engine) == histories
    assert await read_model(engine) == expected_read_model(histories)


async def expiring(writer: Writer, command: RunJob) -> list[bool]:
    """Whether the thread's hash, its events and the job may be let go."""
    keys = writer.keys(command.thread_id)
    names = [keys.thread(command.thread_id), keys.thread_events(command.thread_id)]
    return [await writer.redis.ttl(name) > 0 for name in [*names, keys.job(command.job_id)]]


async def pending(redis: Redis) -> dict[Any, Any]:
    """Who holds which entry of the logs."""
    held: dict[Any, Any] = {}
    for partition in range(PARTITIONS):
        log = PartitionKeys(partition).log
        for row in await redis.xpending_range(log, PERSISTERS, "-", "+", 10_000):
            held[row["message_id"]] = row["consumer"]
    return held


async def somebody_waits(engine: AsyncEngine) -> bool:
    """Whether a statement waits for somebody else's lock."""
    async with engine.connect() as connection:
        return bool(await connection.scalar(WAITING))
