"""A worker says that it is ready exactly while work sent to it would be done."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest

from services.orchestrator.app import Orchestrator
from shared.redis_client import Redis
from tests.integration.orchestrator.gateway import Gateway
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import Bench
from tests.support.bare_server import SERVERS, BareServer, bare_server

PROBES_SECONDS_MAX = 3.0


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[BareServer]:
    with bare_server(tmp_path, request.param) as server:
        yield server


@pytest.fixture
def redis_url(server: BareServer) -> str:
    return server.url


async def is_ready(worker: Orchestrator) -> bool:
    """What it says, which it says in time."""
    async with asyncio.timeout(PROBES_SECONDS_MAX):
        return await worker.is_ready()


async def test_a_full_disk(bench: Bench, gateway: Gateway, server: BareServer) -> None:
    async with bench.worker() as worker:
        assert await is_ready(worker)
        with server.full_disk():
            assert not await is_ready(worker)
        assert await is_ready(worker)
        assert (await gateway.done(await gateway.ask()))[-1]["status"] == "done"


async def test_a_replica(bench: Bench, redis: Redis) -> None:
    async with bench.worker() as worker:
        await redis.replicaof("127.0.0.1", "1")
        assert not await is_ready(worker)
        await redis.replicaof("NO", "ONE")
        await until(lambda: is_ready(worker))


async def test_too_few_replicas(bench: Bench, redis: Redis) -> None:
    async with bench.worker() as worker:
        await redis.config_set("min-replicas-to-write", 1)
        assert not await is_ready(worker)
        await redis.config_set("min-replicas-to-write", 0)
        assert await is_ready(worker)


async def test_a_server_that_says_nothing(bench: Bench, server: BareServer) -> None:
    async with bench.worker() as worker:
        with server.paused():
            assert not await is_ready(worker)
        await until(lambda: is_ready(worker))


async def test_full_memory_is_for_the_request_to_tell(bench: Bench, redis: Redis) -> None:
    async with bench.worker() as worker:
        await redis.config_set("maxmemory", 1)
        assert await is_ready(worker)
