"""The services and the stores cannot hear each other, or only badly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import pytest

from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.redis_client import connect
from tests.faults.agents import AGENTS
from tests.faults.arena import Arena, Row
from tests.faults.conftest import LEASE_SECONDS
from tests.faults.depth import thorough
from tests.faults.model_seen import model_seen
from tests.faults.networked import POSTGRES, REDIS, Network
from tests.faults.stores import PARTITIONS
from tests.support.proxy import Fault, Proxy, Way

CUT_OFF_SECONDS = 2 * LEASE_SECONDS
MACHINE_SECONDS = 1.5  # two cores, shared with whatever else runs
HALF_OF_200_MS = 0.1
NTH_MAX = 4
ROUNDS_MAX = 12
# Which of the workers reads the archive, and how often, is left to chance.
READERS = {("orchestrator-1", POSTGRES), ("orchestrator-2", POSTGRES)}
WORKER = "orchestrator-1"
WAYS = {"both ways": tuple(Way), "requests": (Way.REQUESTS,), "replies": (Way.REPLIES,)}
WRITES = {REDIS: b"EVALSHA", POSTGRES: b""}


@pytest.mark.parametrize("way", ["both ways", thorough("requests"), thorough("replies")])
async def test_row_08_a_worker_is_cut_off_from_redis(
    way: str, networked_arena: Arena, network: Network
) -> None:
    proxy = network.proxies[WORKER, REDIS]
    async with networked_arena.row(f"08 worker cut off from Redis: {way}") as row:
        await row.users.stream(4, agent="steady-long")
        while not await works(row, WORKER):
            await row.users.stream(1, agent="steady-long")
        began = time.monotonic()
        async with row.faults.lasting(f"{WORKER} cut off: {way}"):
            network.call(partial(proxy.black_hole, *WAYS[way]))
            await asyncio.sleep(CUT_OFF_SECONDS)
            network.call(proxy.heal)
        given_up = (await model_seen(row.cluster)).asked(AGENTS["steady-long"], outcome="aborted")
    seconds = [one["ended_ms"] / 1000 - began for one in given_up if one["ended_ms"] / 1000 > began]
    assert seconds, "the worker that was cut off let no answer go"
    assert max(seconds) < LEASE_SECONDS + MACHINE_SECONDS
    assert row.figures.attempts_max == 2


async def works(row: Row, worker: str) -> bool:
    """Whether a job runs there."""
    async with connect(row.cluster.redis_url) as redis:
        for keys in map(PartitionKeys, range(PARTITIONS)):
            for one in await redis.xinfo_consumers(keys.commands, ORCHESTRATORS):
                if one["name"] == worker.encode() and one["pending"]:
                    return True
    return False


@pytest.mark.thorough
async def test_row_09_everything_is_slow(networked_arena: Arena, network: Network) -> None:
    async with networked_arena.row("09 latency of 200 ms") as row, clients(row) as front:
        for proxy in (front, *network.proxies.values()):
            proxy.delay_seconds = HALF_OF_200_MS
        await row.users.stream(3)
        await row.users.finished()
        network.heal()


@pytest.mark.thorough
async def test_row_09_replies_come_byte_by_byte(networked_arena: Arena, network: Network) -> None:
    async with networked_arena.row("09 byte by byte") as row, clients(row) as front:
        for proxy in (front, *network.proxies.values()):
            proxy.chunk_bytes = 1
        await row.users.stream(3)
        await row.users.finished()
        network.heal()


@pytest.mark.parametrize(
    "fault", [Fault.CUT, thorough(Fault.DROP)], ids=lambda fault: fault.name.lower()
)
async def test_row_09_replies_are_lost(
    fault: Fault, networked_arena: Arena, network: Network
) -> None:
    before = met(network)
    async with (
        networked_arena.row(f"09 replies lost: {fault.name.lower()}") as row,
        clients(row) as front,
    ):
        for (_, server), proxy in network.proxies.items():
            nth = row.random.randint(1, NTH_MAX)
            network.call(partial(proxy.on_reply, fault, to=WRITES[server], nth=nth))
        front.on_reply(fault, to=b"POST /v1/jobs")
        jobs = await row.users.stream(4)
        front.on_reply(fault, to=b"Last-Event-ID")
        front.cut_all()
        for number in range(ROUNDS_MAX):
            await row.users.insist("GET", "/v1/threads")
            thread_id = jobs[
                number % len(jobs)
            ].thread_id  # for what was said there, a worker reads
            job = await row.users.ask(f"more {number}", agent="quick", thread_id=thread_id)
            row.users.watch(job)
        await row.users.finished()
        assert front.faults_met == 2
    unharmed = {link for link, count in met(network).items() if count == before[link]}
    assert unharmed <= READERS, "nothing happened there"


def met(network: Network) -> dict[tuple[str, str], int]:
    """How many replies have met a fault, by link."""
    return {link: proxy.faults_met for link, proxy in network.proxies.items()}


@asynccontextmanager
async def clients(row: Row) -> AsyncGenerator[Proxy]:
    """Let the users come by way of a proxy, too."""
    async with AsyncExitStack() as stack:
        port = urlsplit(row.cluster.url).port or 0
        front = await stack.enter_async_context(Proxy("127.0.0.1", port))
        direct, row.users.urls = row.users.urls, [front.url(row.cluster.url)]
        try:
            yield front
        finally:
            row.users.urls = direct
