"""The real persister in the test's own loop, and Redis letting go of what it has archived."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from services.persister.app import assemble
from services.persister.consumer import make_broker
from shared.keys import PERSISTERS, PartitionKeys
from shared.postgres import create_engine
from shared.redis_client import Redis, connect
from shared.settings import Settings
from tests.integration.api.gateways import PARTITIONS
from tests.integration.api.waiting import eventually
from tests.integration.api.worker import Worker


@asynccontextmanager
async def running_persister(settings: Settings) -> AsyncGenerator[None]:
    redis = connect(settings.required("redis_url"))
    engine = create_engine(settings.required("database_url"), application="persister")
    broker = make_broker(settings.required("redis_url"), drain_seconds=settings.drain_seconds)
    persister = assemble(settings, redis=redis, broker=broker, engine=engine)
    try:
        await persister.start()
        yield
    finally:
        await persister.stop()
        await engine.dispose()
        await redis.aclose()


async def archive_all(settings: Settings, redis: Redis) -> None:
    """Run a persister until every event is archived."""
    async with running_persister(settings):
        await eventually(lambda: is_archived(redis))


async def is_archived(redis: Redis) -> bool:
    """Whether every entry of the log was delivered and acknowledged."""
    for partition in range(PARTITIONS):
        log = PartitionKeys(partition).log
        groups: Any = await redis.xinfo_groups(log)
        stream: Any = await redis.xinfo_stream(log)
        group = next(group for group in groups if group["name"] == PERSISTERS.encode())
        if group["pending"] or group["last-delivered-id"] != stream["last-generated-id"]:
            return False
    return True


async def let_go(worker: Worker, thread_id: str) -> None:
    """What Redis does with an archived, idle thread and its jobs when their time is up."""
    keys = worker.keys(thread_id)
    jobs = {record.stream for record in await worker.records(thread_id)} - {thread_id}
    names = [keys.thread(thread_id), keys.thread_events(thread_id), *map(keys.job, jobs)]
    await worker.redis.delete(*names)


async def trim(worker: Worker, thread_id: str, *, before: int) -> None:
    """What Redis does with the archived head of the stream of a thread in use."""
    name = worker.keys(thread_id).thread_events(thread_id)
    await worker.redis.xtrim(name, minid=f"{before}-0", approximate=False)
