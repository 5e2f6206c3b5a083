"""How much waits in each partition: whether workers and persisters keep up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from shared.keys import ORCHESTRATORS, PERSISTERS, PartitionKeys
from shared.redis_client import Redis, RedisError, translate

_ASKED: Final = 7  # commands per partition


@dataclass(frozen=True, slots=True)
class PartitionBacklog:
    partition: int
    commands_waiting: int  # no worker has them
    commands_pending: int  # workers hold them
    log_entries: int  # not archived
    log_pending: int  # of those, in a persister's batch
    log_seconds: float  # age of the oldest of them
    dead_letters: int
    is_open: bool  # for writing


class Backlog:
    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis, self._partitions = redis, partitions

    async def look(self) -> list[PartitionBacklog]:
        """All partitions whose server answers, in one round trip. Raises LogUnavailable."""
        with translate():
            pipeline = cast("Any", self._redis.pipeline(transaction=False))
            pipeline.time()
            for partition in range(self._partitions):
                keys = PartitionKeys(partition)
                pipeline.xlen(keys.commands)
                pipeline.xpending(keys.commands, ORCHESTRATORS)
                pipeline.xlen(keys.log)
                pipeline.xpending(keys.log, PERSISTERS)
                pipeline.xrange(keys.log, count=1)
                pipeline.xlen(keys.dead)
                pipeline.hget(keys.meta, "verified")
            time, *replies = await pipeline.execute(raise_on_error=False)
            if isinstance(time, RedisError):
                raise time
        now = time[0] + time[1] / 1_000_000
        parts = [replies[at : at + _ASKED] for at in range(0, len(replies), _ASKED)]
        return [
            _backlog(partition, now, part)
            for partition, part in enumerate(parts)
            if not isinstance(part[0], RedisError)
        ]


def _backlog(partition: int, now: float, replies: list[Any]) -> PartitionBacklog:
    commands, begun, log, batched, oldest, dead, verified = replies
    pending = _pending(begun)
    return PartitionBacklog(
        partition,
        commands_waiting=max(0, commands - pending),
        commands_pending=pending,
        log_entries=log,
        log_pending=_pending(batched),
        log_seconds=max(0.0, now - _seconds(oldest[0][0])) if oldest else 0.0,
        dead_letters=dead,
        is_open=verified == b"1",
    )


def _pending(summary: Any) -> int:
    """Of a group that is gone, none: its readers make it again."""
    return 0 if isinstance(summary, RedisError) else int(summary["pending"])


def _seconds(entry_id: bytes) -> float:
    return int(entry_id.split(b"-")[0]) / 1000
