"""Events that cannot be archived move to the partition's dead-letter stream, with the reason."""

from __future__ import annotations

from shared.keys import PERSISTERS, PartitionKeys
from shared.redis_client import Redis
from shared.redis_scripts import Call, Script, run
from shared.times import utc_now


class DeadEvents:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._move = Script("dead_letter")

    async def move(self, partition: int, entry_id: str, reason: str) -> None:
        """Take an entry out of the log for good, its fields kept beside the reason.

        One that was acknowledged before stays as it is. Raises LogUnavailable.
        """
        keys = PartitionKeys(partition)
        args = [PERSISTERS, entry_id, "event", reason, utc_now()]
        await run(self._redis, Call(self._move, [keys.log, keys.dead], args))
