"""What must be true of Redis before a service starts: same partitions, groups in place."""

from __future__ import annotations

from typing import Any, cast

from shared.errors import DeploymentError
from shared.keys import ORCHESTRATORS, PERSISTERS, PartitionKeys
from shared.redis_client import Redis, ResponseError, translate


async def prepare(redis: Redis, partitions: int) -> None:
    """Create the consumer groups and pin the number of partitions on first use.

    Groups start at id 0, so that what was written before the first worker is delivered too.
    Raises DeploymentError when the deployment was made with another number of partitions (threads
    would be looked for in the wrong place), LogUnavailable.
    """
    with translate():
        meta = PartitionKeys(0).meta
        await cast("Any", redis.hsetnx(meta, "partitions", str(partitions)))
        known = cast("bytes", await cast("Any", redis.hget(meta, "partitions")))
    if int(known) != partitions:
        raise DeploymentError(
            f"this deployment has {int(known)} partitions, HEADWATER_PARTITIONS says {partitions}"
        )
    for partition in range(partitions):
        keys = PartitionKeys(partition)
        await ensure_group(redis, keys.commands, ORCHESTRATORS)
        await ensure_group(redis, keys.log, PERSISTERS)


async def ensure_group(redis: Redis, stream: str, group: str) -> None:
    """Make a stream and a group on it, at id 0; harmless when both are there."""
    with translate():
        try:
            await redis.xgroup_create(stream, group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
