"""How each kind of fault is brought about and ended. What strikes whom is the forecast's affair."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, cast

import psycopg

from shared.keys import ORCHESTRATORS, PERSISTERS, PartitionKeys
from shared.redis_client import Redis, RedisError, connect
from tests.faults import full_redis, poison, sick_postgres
from tests.faults.arena import Row
from tests.faults.clocks import HOUR, jumped
from tests.faults.forecast import CLIENTS, GATEWAYS, Strike
from tests.faults.lost_tail import forgetting, lost_tail
from tests.faults.networked import REDIS, Link
from tests.faults.slow_clients import slow_clients
from tests.faults.stores import PARTITIONS
from tests.faults.storm_cluster import StormCluster
from tests.faults.vanishing_clients import ask_and_vanish, break_off, read_and_vanish
from tests.support.proxy import CHUNK_BYTES_MAX, Fault, Proxy, Way

NTH_MAX: Final = 4
DELAY_SECONDS: Final = (0.02, 0.2)
WRITES: Final = {REDIS: b"EVALSHA", CLIENTS: b"POST /v1/jobs"}
WAYS: Final = (tuple(Way), (Way.REQUESTS,), (Way.REPLIES,))
# Nobody had anything to write, or it was this side that was refused.
NOBODY_REFUSED: Final = (TimeoutError, psycopg.OperationalError)
POLL_SECONDS: Final = 0.02
END_SESSIONS: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""

Act = Callable[[Strike], Awaitable[None]]


class Weather:
    """The faults of one row over one storm cluster; `fronts` are the links of the clients."""

    def __init__(self, row: Row, cluster: StormCluster, fronts: Mapping[Link, Proxy]) -> None:
        self._row = row
        self._cluster = cluster
        self._fronts = fronts

    async def strike(self, strike: Strike) -> None:
        """Returns when it is over and healed."""
        with suppress(ProcessLookupError):  # it is down already
            await self.acts[strike.name](strike)

    @property
    def acts(self) -> dict[str, Act]:
        """By the names of the forecast."""
        return {
            **dict.fromkeys(("kill", "store killed"), self._kill),
            **dict.fromkeys(("terminate", "store terminated"), self._terminate),
            **dict.fromkeys(("freeze", "store frozen"), self._freeze),
            **dict.fromkeys(("away", "store away"), self._away),
            "clock jumps": self._clock_jumps,
            "Redis loses its tail": self._redis_loses_its_tail,
            "Redis is emptied": self._redis_is_emptied,
            "Redis memory full": self._redis_memory_full,
            "Redis disk full": self._redis_disk_full,
            "groups destroyed": self._groups_destroyed,
            "commands deleted": self._commands_deleted,
            "scripts forgotten": self._scripts_forgotten,
            "Postgres disk full": self._postgres_disk_full,
            "Postgres read-only": self._postgres_read_only,
            "deadlock": self._deadlock,
            "serialization failure": self._serialization_failure,
            "sessions ended": self._sessions_ended,
            "black hole": self._black_hole,
            "replies dropped": partial(self._replies, Fault.DROP),
            "replies cut": partial(self._replies, Fault.CUT),
            "reply never comes": partial(self._replies, Fault.HOLE),
            "all connections cut": self._all_connections_cut,
            "refused": self._refused,
            "slow link": self._slow_link,
            "byte by byte": self._byte_by_byte,
            "poison": self._poison,
            "slow clients": self._slow_clients,
            "clients vanish": self._clients_vanish,
        }

    # ── processes ──────────────────────────────────────────────────────────────────────────────

    async def _kill(self, strike: Strike) -> None:
        name = str(strike.target)
        self._row.faults.kill(name)
        await self._row.faults.ready(name)

    async def _terminate(self, strike: Strike) -> None:
        name = str(strike.target)
        self._row.faults.term(name)
        await self._row.faults.ready(name)

    async def _freeze(self, strike: Strike) -> None:
        await self._row.faults.stop_cont(str(strike.target), strike.seconds)

    async def _away(self, strike: Strike) -> None:
        await self._row.faults.hold(str(strike.target), strike.seconds)

    async def _clock_jumps(self, strike: Strike) -> None:
        """A gateway's only forward: one that is behind is right to refuse a fresh token."""
        name = str(strike.target)
        ahead = name in GATEWAYS or random.Random(strike.seed).random() < 0.5
        clock = {name.replace("-", "_"): HOUR if ahead else -HOUR}
        with jumped(self._cluster.clocks, self._row.history, **clock):
            await asyncio.sleep(strike.seconds)

    # ── Redis ──────────────────────────────────────────────────────────────────────────────────

    async def _redis_loses_its_tail(self, strike: Strike) -> None:
        async with lost_tail(self._row, seconds=strike.seconds):
            await asyncio.sleep(strike.seconds)

    async def _redis_is_emptied(self, _: Strike) -> None:
        async with self._redis() as redis, forgetting(self._row):
            await redis.flushall()

    async def _redis_memory_full(self, strike: Strike) -> None:
        async with full_redis.full_memory(self._row):
            await asyncio.sleep(strike.seconds)

    async def _redis_disk_full(self, strike: Strike) -> None:
        async with full_redis.full_disk(self._row, left_bytes=0):
            await asyncio.sleep(strike.seconds)

    async def _groups_destroyed(self, strike: Strike) -> None:
        async with self._row.faults.lasting(strike.name), self._redis() as redis:
            for keys in map(PartitionKeys, range(PARTITIONS)):
                with suppress(RedisError):  # the stream is not there
                    await redis.xgroup_destroy(keys.commands, ORCHESTRATORS)
                    await redis.xgroup_destroy(keys.log, PERSISTERS)

    async def _commands_deleted(self, strike: Strike) -> None:
        async with self._row.faults.lasting(strike.name), self._redis() as redis:
            for keys in map(PartitionKeys, range(PARTITIONS)):
                await redis.delete(keys.commands)

    async def _scripts_forgotten(self, strike: Strike) -> None:
        async with self._row.faults.lasting(strike.name), self._redis() as redis:
            await redis.script_flush()

    @asynccontextmanager
    async def _redis(self) -> AsyncGenerator[Redis]:
        async with connect(self._row.cluster.redis_url) as redis:
            yield redis

    # ── Postgres ───────────────────────────────────────────────────────────────────────────────

    async def _postgres_disk_full(self, strike: Strike) -> None:
        async with sick_postgres.full_disk(self._row):
            await asyncio.sleep(strike.seconds)

    async def _postgres_read_only(self, strike: Strike) -> None:
        read_only = sick_postgres.configured(self._row, "default_transaction_read_only", "on")
        async with read_only:
            await asyncio.sleep(strike.seconds)

    async def _deadlock(self, _: Strike) -> None:
        with suppress(*NOBODY_REFUSED):
            await sick_postgres.deadlock(self._row)

    async def _serialization_failure(self, _: Strike) -> None:
        with suppress(*NOBODY_REFUSED):
            await sick_postgres.serialization_failure(self._row)

    async def _sessions_ended(self, strike: Strike) -> None:
        url = self._row.cluster.database_url
        async with (
            self._row.faults.lasting(strike.name),
            await psycopg.AsyncConnection.connect(url, autocommit=True) as connection,
        ):
            await connection.execute(END_SESSIONS)

    # ── links ──────────────────────────────────────────────────────────────────────────────────

    async def _black_hole(self, strike: Strike) -> None:
        ways = random.Random(strike.seed).choice(WAYS)
        async with self._harmed(strike) as (proxy, call):
            call(partial(proxy.black_hole, *ways))
            await asyncio.sleep(strike.seconds)

    async def _replies(self, fault: Fault, strike: Strike) -> None:
        link = cast("Link", strike.target)
        to = WRITES.get(link[1], WRITES[CLIENTS] if link[0] == CLIENTS else b"")
        nth = random.Random(strike.seed).randint(1, NTH_MAX)
        async with self._harmed(strike) as (proxy, call):
            call(partial(proxy.on_reply, fault, to=to, nth=nth))
            await asyncio.sleep(strike.seconds)

    async def _all_connections_cut(self, strike: Strike) -> None:
        async with self._harmed(strike) as (proxy, call):
            call(proxy.cut_all)

    async def _refused(self, strike: Strike) -> None:
        async with self._harmed(strike) as (proxy, call):
            proxy.refuses = True
            call(proxy.cut_all)
            await asyncio.sleep(strike.seconds)

    async def _slow_link(self, strike: Strike) -> None:
        async with self._harmed(strike) as (proxy, _):
            proxy.delay_seconds = random.Random(strike.seed).uniform(*DELAY_SECONDS)
            await asyncio.sleep(strike.seconds)

    async def _byte_by_byte(self, strike: Strike) -> None:
        async with self._harmed(strike) as (proxy, _):
            proxy.chunk_bytes = 1
            await asyncio.sleep(strike.seconds)

    @asynccontextmanager
    async def _harmed(
        self, strike: Strike
    ) -> AsyncGenerator[tuple[Proxy, Callable[[Callable[[], object]], None]]]:
        """The proxy of the link, and who calls something in its loop; healed behind the block."""
        link = cast("Link", strike.target)
        front = self._fronts.get(link)
        proxy = front or self._cluster.network.proxies[link]
        call = _at_once if front else self._cluster.network.call
        async with self._row.faults.lasting(f"{strike.name}: {' to '.join(link)}"):
            try:
                yield proxy, call
            finally:
                proxy.delay_seconds, proxy.chunk_bytes = 0.0, CHUNK_BYTES_MAX
                call(proxy.heal)

    # ── clients ────────────────────────────────────────────────────────────────────────────────

    async def _poison(self, strike: Strike) -> None:
        keys = PartitionKeys(poison.POISON_PARTITION)
        async with self._row.faults.lasting(strike.name), self._redis() as redis:
            with suppress(RedisError):
                await poison.put(redis, keys.commands, poison.commands())
                await poison.put(redis, keys.log, poison.events())

    async def _slow_clients(self, strike: Strike) -> None:
        if not (users := self._row.users).jobs:
            return
        chance = random.Random(strike.seed)
        job, url = chance.choice(users.jobs), chance.choice(self._row.cluster.urls)
        path, token = f"/v1/jobs/{job.job_id}/events", self._row.cluster.token(job.user)
        async with self._row.faults.lasting(strike.name):
            with suppress(OSError, TimeoutError):
                async with slow_clients(url, path, token, silent=4, trickling=1):
                    await asyncio.sleep(strike.seconds)

    async def _clients_vanish(self, strike: Strike) -> None:
        chance = random.Random(strike.seed)
        url = chance.choice(self._row.cluster.urls)
        async with self._row.faults.lasting(strike.name):
            with suppress(OSError, TimeoutError):
                await break_off(self._row, url)
                await ask_and_vanish(self._row, url, chance)
                await read_and_vanish(self._row, url, chance)


def _at_once(action: Callable[[], object]) -> None:
    action()
