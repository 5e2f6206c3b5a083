"""Hears that a job is to be cancelled, within a round trip.

A publish may be lost; the flag in the job's hash is not, and every append and heartbeat reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from shared.codec import decode_command
from shared.commands import CancelJob
from shared.errors import CodecError
from shared.keys import PartitionKeys
from shared.observability import get_logger
from shared.redis_client import Redis, RedisError

LISTEN_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.5

log = get_logger()


async def listen_for_cancels(redis: Redis, partitions: int, cancel: Callable[[str], None]) -> None:
    """Call ``cancel(job_id)`` for every cancellation of any job, until cancelled."""
    channels = [PartitionKeys(partition).cancels for partition in range(partitions)]
    client = cast("Any", redis)  # redis-py does not say what its pub/sub returns
    while True:
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                await pubsub.ssubscribe(*channels)
                while True:
                    message = await pubsub.get_message(timeout=LISTEN_SECONDS)
                    if message is not None:
                        _hear(message["data"], cancel)
        except RedisError as error:
            log.warning("cancels are heard by heartbeat only", reason=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)


def _hear(data: bytes, cancel: Callable[[str], None]) -> None:
    try:
        command = decode_command(data)
    except CodecError as error:
        log.warning("not a cancellation", reason=str(error))
        return
    if isinstance(command, CancelJob):
        cancel(command.job_id)
