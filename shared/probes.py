"""What readiness asks of the stores: an answer that says yes, soon.

Redis is asked with a write that changes nothing. A PING would do for a server that is away, loads
its data (LOADING) or has a full disk (MISCONF), but a replica (READONLY) and a server without
enough of them (NOREPLICAS) answer it as if all were well.

A server at its ``maxmemory`` passes. It refuses what adds, and the 503 of that request says so; it
serves reads, streams and cancels, and the persister, which makes room, must go on. All gateways
share it, so taking them out of service would only end the streams that it still feeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from shared.errors import HeadwaterError
from shared.keys import PartitionKeys
from shared.redis_client import ClusterRedis, Redis, RedisError, translate

PROBE_SECONDS_MAX: Final = 2.0
PARTITIONS_PROBED: Final = 8  # of a cluster


async def says_yes(probe: Callable[[], Awaitable[object]]) -> bool:
    """Whether the probe comes back, without an error of the stores, within PROBE_SECONDS_MAX."""
    try:
        async with asyncio.timeout(PROBE_SECONDS_MAX):
            await probe()
    except (HeadwaterError, RedisError, TimeoutError):
        return False
    return True


async def takes_writes(redis: Redis) -> bool:
    """Whether Redis answers in time, and would not refuse a write (one that adds nothing).

    Of a cluster, any server: the others' partitions are served while one fails over.
    """

    async def write_nothing() -> None:
        with translate():
            await cast("Any", redis).hdel(PartitionKeys(0).meta, "nothing")

    async def write_nothing_anywhere() -> None:
        pipeline = cast("Any", redis).pipeline(transaction=False)
        for partition in range(PARTITIONS_PROBED):
            pipeline.hdel(PartitionKeys(partition).meta, "nothing")
        replies = await pipeline.execute(raise_on_error=False)
        if all(isinstance(reply, RedisError) for reply in replies):
            raise replies[0]

    is_cluster = isinstance(redis, ClusterRedis)
    return await says_yes(write_nothing_anywhere if is_cluster else write_nothing)
