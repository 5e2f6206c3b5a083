"""Whether Redis still knows what the archive knows: without that, nothing may be written.

Redis acknowledges before it has written to disk, and a power cut costs it up to a second; a replica
that takes over may lack as much; FLUSHALL takes everything. Numbers that were given out would be
given out again. So a partition is *closed* while that is possible, and opened by a persister, which
has put back what the archive knows and Redis does not:

    restart, failover ─▶ closed by the first connection (``restarts``) ┐
    FLUSHALL, new     ─▶ no ``verified`` in ``meta``                    ┴▶ UNVERIFIED from every
                                                                          script that writes
    persister: new ``life`` ─▶ compare with the archive, restore ─▶ open_partition ─▶ open

A life is the time between two losses, and has a random name. Whoever acts on what it has read
earlier, names the life in which it did: a persister that opens what it has restored, or archives a
batch that it holds.

Failures
    Closed partition      Writers get LogUnavailable: a gateway answers 503, a worker keeps what its
                          model says and tries again. Reads, leases and live streams go on.
    Lost again meanwhile  ``open_partition`` refuses for a life that is over.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final, cast

from shared.keys import PartitionKeys
from shared.redis_client import Redis, RedisError, ResponseError, server_of, translate
from shared.redis_scripts import Call, Script, run

NO_ID: Final = (0, 0)
LIFE_BYTES: Final = 8
RECALL_SECONDS: Final = 10  # two leases, as they are by default

LogId = tuple[int, int]  # milliseconds, number


class Continuity:
    """Looks at partitions and opens them. Every method raises LogUnavailable."""

    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis = cast("Any", redis)
        self._metas = [PartitionKeys(partition).meta for partition in range(partitions)]
        self._open = Script("open_partition")

    async def closed(self) -> list[int]:
        """The partitions in which nothing can be written, as far as their servers answer."""
        with translate():
            pipeline = self._redis.pipeline(transaction=False)
            for meta in self._metas:
                pipeline.hmget(meta, "verified", "life")
            replies = await pipeline.execute(raise_on_error=False)
            errors = [reply for reply in replies if isinstance(reply, RedisError)]
            if len(errors) == len(replies):
                raise errors[0]
        return [
            partition
            for partition, reply in enumerate(replies)
            if not isinstance(reply, RedisError) and (reply[0] != b"1" or reply[1] is None)
        ]

    async def begin_life(self, partitions: Sequence[int]) -> str:
        """Name the time from now until partitions are closed again; before they are restored."""
        life = secrets.token_hex(LIFE_BYTES)
        runs = await self._runs([self._metas[partition] for partition in partitions])
        with translate():
            pipeline = self._redis.pipeline(transaction=False)
            for meta, run_id in runs.items():
                pipeline.hsetnx(meta, "run", run_id)  # an emptied server has forgotten it
                pipeline.hset(meta, "life", life)
            await pipeline.execute()
        return life

    async def life(self, partition: int) -> str:
        """The life that the partition lives; '' when that is over and no other has begun."""
        with translate():
            life = await self._redis.hget(self._metas[partition], "life")
        return "" if life is None else life.decode()

    async def _runs(self, metas: Sequence[str]) -> dict[str, str]:
        """The run of the server that has each of them."""
        servers = {meta: await server_of(self._redis, meta) for meta in metas}
        with translate():
            facts = {
                server: await cast("Any", server).info("server") for server in {*servers.values()}
            }
        return {meta: facts[server]["run_id"] for meta, server in servers.items()}

    async def last_log_id(self, partition: int) -> LogId:
        """The newest id the partition's log has ever given out, also when it is trimmed."""
        with translate():
            try:
                facts = await self._redis.xinfo_stream(PartitionKeys(partition).log)
            except ResponseError:  # there is no such stream
                return NO_ID
        milliseconds, number = cast("bytes", facts["last-generated-id"]).split(b"-")
        return int(milliseconds), int(number)

    async def open(self, partitions: Sequence[int], life: str, *, recall: bool = False) -> bool:
        """Let writers in, if the partitions still live the life in which they were restored.

        ``recall``: what is not there may still come, from a worker that has noticed the loss.
        """
        if recall:
            with translate():
                pipeline = self._redis.pipeline(transaction=False)
                for partition in partitions:
                    pipeline.set(PartitionKeys(partition).recall, 1, ex=RECALL_SECONDS)
                await pipeline.execute()
        opened = [
            await run(self._redis, Call(self._open, [self._metas[partition]], [life]))
            for partition in partitions
        ]
        return all(opened)

    async def close(self, partition: int, life: str) -> None:
        """Have the partition restored again, if it still lives that life."""
        meta = self._metas[partition]
        with translate():
            if await self._redis.hget(meta, "life") == life.encode():
                await self._redis.hdel(meta, "verified")

    async def trust(self) -> None:
        """Open every partition unseen: for a Redis that nobody has ever archived from."""
        partitions = range(len(self._metas))
        await self.open(partitions, await self.begin_life(partitions))
