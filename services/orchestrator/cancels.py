"""Hears that a job is to be cancelled, within a round trip.

A publish may be lost; the flag in the job's hash is not, and every append and heartbeat reads it.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.cluster_channels import channels_of
from shared.codec import decode_command
from shared.commands import CancelJob
from shared.errors import CodecError
from shared.keys import PartitionKeys
from shared.observability import get_logger
from shared.redis_client import Redis

log = get_logger()


async def listen_for_cancels(redis: Redis, partitions: int, cancel: Callable[[str], None]) -> None:
    """Call ``cancel(job_id)`` for every cancellation of any job, until cancelled.

    While a connection is away, cancels are heard by heartbeat only.
    """

    def heard(_: bytes, data: bytes) -> None:
        _hear(data, cancel)

    channels = channels_of(redis, confirmed=lambda _: None, heard=heard)
    for partition in range(partitions):
        channels.want(PartitionKeys(partition).cancels.encode())
    await channels.listen()


def _hear(data: bytes, cancel: Callable[[str], None]) -> None:
    try:
        command = decode_command(data)
    except CodecError as error:
        log.warning("not a cancellation", reason=str(error))
        return
    if isinstance(command, CancelJob):
        cancel(command.job_id)
