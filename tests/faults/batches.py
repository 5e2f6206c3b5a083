"""Persisters caught with a batch in hand: entries that were read and are not acknowledged."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from shared.keys import PERSISTERS, PartitionKeys
from shared.redis_client import Redis, connect
from tests.faults.arena import Row
from tests.faults.stores import PARTITIONS

CATCH_SECONDS_MAX = 20.0
SETTLE_SECONDS = 0.05  # what a process has sent before it was stopped still arrives
RUN_SECONDS = 0.01


@asynccontextmanager
async def stopped_mid_batch(row: Row, name: str) -> AsyncGenerator[None]:
    """SIGSTOP of a persister in the middle of a batch, for the length of the block."""
    consumer = f"{socket.gethostname()}-{row.cluster.pid(name)}"
    async with connect(row.cluster.redis_url) as redis:
        for _ in range(round(CATCH_SECONDS_MAX / (SETTLE_SECONDS + RUN_SECONDS))):
            async with row.faults.stopped(name):
                await asyncio.sleep(SETTLE_SECONDS)
                if await _has_a_batch(redis, consumer):
                    yield
                    return
            await asyncio.sleep(RUN_SECONDS)
    raise AssertionError(f"{name} was never seen with a batch")


async def kill_mid_batch(row: Row, name: str) -> None:
    """kill -9 of a persister in the middle of a batch."""
    async with stopped_mid_batch(row, name):
        row.faults.kill(name)


async def _has_a_batch(redis: Redis, consumer: str) -> bool:
    for keys in map(PartitionKeys, range(PARTITIONS)):
        pending = await redis.xpending_range(
            keys.log, PERSISTERS, min="-", max="+", count=1, consumername=consumer
        )
        if pending:
            return True
    return False
