"""The dead-letter stream: what was given up on, and why."""

from __future__ import annotations

from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.redis_client import Redis
from shared.redis_scripts import Call, Script, run
from shared.times import utc_now


class DeadLetters:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._move = Script("dead_letter")

    async def move_command(self, keys: PartitionKeys, entry_id: str, reason: str) -> bool:
        """Take an entry out of the command stream for good; False if it was acknowledged before.

        Raises LogUnavailable.
        """
        args = [ORCHESTRATORS, entry_id, "command", reason, utc_now()]
        return bool(await run(self._redis, Call(self._move, [keys.commands, keys.dead], args)))
