"""The servers of a Redis Cluster: a client for each, and who has which slot.

A connection asks its server about a loss when it is made (``restarts``), and is then trusted. A
server that becomes a primary gets new slots without any connection to it ending. So the cluster's
map carries the state of each server, and whoever is found in another state than before is connected
to anew, before the next command:

    command ─▶ map older than MAP_SECONDS, or in doubt? ─▶ look ─┬─ same state ───────▶ send
                                                                 └─ other ─▶ reconnect ─▶ send

A look asks the server that told last and, when that does not answer soon, all others; it takes the
first answer that is not out of date. A failover that was reversed between two looks shows in the
epoch.

Failures
    Server away          Its commands fail (ConnectionError); the others' go on.
    No server answers    ``look_seconds_max``, then ConnectionError.
    Server superseded    Its connections are given up: who waits for an answer of it (a frozen one
                         gives none) is told at once, and asks its successor.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import ConnectionError, RedisError

from shared.cancellation import end_tasks
from shared.cluster_map import ClusterMap, State, read_map
from shared.observability import get_logger
from shared.redis_urls import Address
from shared.renewed_pool import RenewedPool

MAP_SECONDS: Final = 1.0  # a cluster-node-timeout is longer, and so is a failover
HEDGE_SECONDS: Final = 0.25  # then all others are asked as well
ASKED_MAX: Final = 8  # servers in one look
END_SECONDS_MAX: Final = 1.0

log = get_logger()

OpenServer = Callable[[Address, Callable[[], list[str]]], Redis]
OpenLookout = Callable[[Address], Redis]


class ClusterNodes:
    """``server`` opens a client whose connections ask about the given ``meta`` keys first;
    ``lookout`` one that asks nothing, to be asked for the map."""

    def __init__(
        self,
        addresses: Iterable[Address],
        *,
        server: OpenServer,
        lookout: OpenLookout,
        look_seconds_max: float,
    ) -> None:
        self._look_seconds_max = look_seconds_max
        self._seeds = frozenset(addresses)
        self._open_server, self._open_lookout = server, lookout
        self._servers: dict[Address, Redis] = {}
        self._lookouts: dict[Address, Redis] = {}
        self._waits: dict[Address, set[asyncio.Timeout]] = defaultdict(set)
        self._map: ClusterMap | None = None
        self._told_last: Address | None = None
        self._looked_at = 0.0
        self._doubted = True
        self._look: asyncio.Task[None] | None = None

    def owner(self, slot: int | None) -> Address | None:
        """Who has a slot, or anybody; None when nobody has it. Only once a map is ``fresh``."""
        cluster = cast("ClusterMap", self._map)
        if slot is None:
            return next(iter(cluster.states), None)
        return cluster.owners[slot]

    def server(self, address: Address) -> Redis:
        if address not in self._servers:
            self._servers[address] = self._open_server(address, lambda: self._metas(address))
        return self._servers[address]

    @asynccontextmanager
    async def answering(self, address: Address) -> AsyncGenerator[None]:
        """The block waits for a server, until that is no primary any more: ConnectionError."""
        try:
            async with asyncio.timeout(None) as wait:
                self._waits[address].add(wait)
                try:
                    yield
                finally:
                    self._waits[address].discard(wait)
        except TimeoutError:
            raise ConnectionError("another server has taken over") from None

    def doubt(self) -> None:
        """Look again before the next command."""
        self._doubted = True

    async def fresh(self) -> None:
        """Return once the map can be trusted. Raises ConnectionError."""
        if not self._doubted and time.monotonic() - self._looked_at < MAP_SECONDS:
            return
        if self._look is None:
            self._look = asyncio.create_task(self._look_around(), name="cluster.look")
            self._look.add_done_callback(_seen)
        await asyncio.shield(self._look)

    async def aclose(self) -> None:
        if self._look is not None:
            await end_tasks([self._look], seconds_max=END_SECONDS_MAX)
        clients = [*self._servers.values(), *self._lookouts.values()]
        self._servers, self._lookouts = {}, {}
        await asyncio.gather(*(client.aclose() for client in clients))

    def _metas(self, address: Address) -> list[str]:
        return self._map.metas(address) if self._map else []

    async def _look_around(self) -> None:
        began = time.monotonic()
        self._doubted = False
        try:
            await self._take(await self._first_answer())
            self._looked_at = began
        except BaseException:
            self._doubted = True
            raise
        finally:
            self._look = None

    async def _first_answer(self) -> ClusterMap:
        """One server's that is not out of date; if all are, the newest: somebody has begun anew."""
        best: ClusterMap | None = None
        asking = [
            asyncio.create_task(self._ask(address, after=bool(place) * HEDGE_SECONDS))
            for place, address in enumerate(self._known())
        ]
        try:
            async with asyncio.timeout(self._look_seconds_max):
                for answer in asyncio.as_completed(asking):
                    found = await answer
                    if found and (self._map is None or found.epoch >= self._map.epoch):
                        return found
                    best = max(best, found, key=lambda one: one.epoch if one else -1)
        except TimeoutError:
            pass
        finally:
            await end_tasks(asking, seconds_max=END_SECONDS_MAX)
        if best is None:
            raise ConnectionError("no server tells who has which slot")
        return best

    def _known(self) -> list[Address]:
        """Whom to ask: first who told last."""
        known = set(self._seeds)
        if self._map is not None:
            known |= self._map.states.keys() | self._map.others
        chosen = random.sample(sorted(known), min(len(known), ASKED_MAX))
        return sorted(
            {*chosen, self._told_last or chosen[0]}, key=lambda one: one != self._told_last
        )

    async def _ask(self, address: Address, *, after: float) -> ClusterMap | None:
        await asyncio.sleep(after)
        if address not in self._lookouts:
            self._lookouts[address] = self._open_lookout(address)
        pipeline = cast("Any", self._lookouts[address]).pipeline(transaction=False)
        # In two words the driver knows no callbacks for them, which would make dicts.
        pipeline.execute_command("CLUSTER", "SLOTS")
        pipeline.execute_command("CLUSTER", "NODES")
        try:
            slots, nodes = await pipeline.execute()
        except RedisError as error:
            log.debug("a server tells nothing", server=address[1], reason=str(error))
            return None
        self._told_last = address
        return read_map(slots, nodes, told_by=address)

    async def _take(self, found: ClusterMap) -> None:
        before, self._map = self._map, found
        states: Mapping[Address, State] = before.states if before else {}
        retired: list[Redis] = []
        for address, client in list(self._servers.items()):
            state = found.states.get(address)
            if state == states.get(address):
                continue
            log.warning("a server's part has changed", server=address[1], slots=bool(state))
            _pool(client).renew()
            if state is None:
                retired.append(self._servers.pop(address))
                for wait in self._waits.pop(address, ()):
                    wait.reschedule(0)
        for address in self._lookouts.keys() - found.states.keys() - found.others - self._seeds:
            retired.append(self._lookouts.pop(address))
        await asyncio.gather(*(_pool(client).retire() for client in retired))


def _pool(client: Redis) -> RenewedPool:
    return cast("RenewedPool", client.connection_pool)


def _seen(look: asyncio.Task[None]) -> None:
    """Its error is told to who waits for it, and there may be nobody left."""
    if not look.cancelled():
        look.exception()
