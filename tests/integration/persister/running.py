"""A persister in the test's own loop, and conditions to wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from services.persister.app import Persister, assemble
from services.persister.consumer import make_broker
from shared.keys import PERSISTERS, PartitionKeys
from shared.postgres import create_engine
from shared.redis_client import Redis, connect
from shared.settings import Settings
from tests.integration.persister.writer import PARTITIONS, TTL_SECONDS

WAIT_SECONDS_MAX = 20.0
STEP_SECONDS = 0.02
LEASE_SECONDS = 0.6
HEARTBEAT_SECONDS = 0.1


def settings_for(redis_url: str, database_url: str, *, name: str) -> Settings:
    return Settings.model_validate(
        {
            "redis_url": redis_url,
            "database_url": database_url,
            "partitions": PARTITIONS,
            "lease_seconds": LEASE_SECONDS,
            "heartbeat_seconds": HEARTBEAT_SECONDS,
            "idle_ttl_seconds": TTL_SECONDS,
            "consumer_name": name,
        }
    )


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncGenerator[Persister]:
    """A persister on adapters of its own; started by the test, stopped in the end."""
    redis = connect(settings.required("redis_url"))
    engine = create_engine(settings.required("database_url"), application="persister")
    broker = make_broker(settings.required("redis_url"), drain_seconds=settings.drain_seconds)
    persister = assemble(settings, redis=redis, broker=broker, engine=engine)
    try:
        yield persister
    finally:
        await persister.stop()
        await engine.dispose()
        await redis.aclose()


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[Persister]:
    async with assembled(settings) as persister:
        await persister.start()
        yield persister


async def eventually(
    condition: Callable[[], Awaitable[Any]], *, seconds: float = WAIT_SECONDS_MAX
) -> None:
    """Wait until the condition holds. An AssertionError inside it is told when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            held, reason = await condition(), None
        except AssertionError as error:
            held, reason = False, error
        if held is None or held:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen in {seconds} s") from reason
        await asyncio.sleep(STEP_SECONDS)


async def is_consumed(redis: Redis) -> bool:
    """Whether every entry of the log was delivered and acknowledged."""
    for partition in range(PARTITIONS):
        log = PartitionKeys(partition).log
        groups: Any = await redis.xinfo_groups(log)
        stream: Any = await redis.xinfo_stream(log)
        group = next(group for group in groups if group["name"] == PERSISTERS.encode())
        if group["pending"] or group["last-delivered-id"] != stream["last-generated-id"]:
            return False
    return True
