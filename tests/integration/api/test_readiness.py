"""/readyz: red while a request would not be served, in time, and green again afterwards."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import redis as blocking

from shared.redis_client import Redis, connect
from shared.settings import Settings
from tests.integration.api.gateways import Client, problem_of, running_gateway
from tests.integration.api.waiting import eventually
from tests.support.bare_server import SERVERS, BareServer, bare_server

PROBES_SECONDS_MAX = 3.0
KEYS = 30_000
KEY_MICROSECONDS = 100  # so it loads for three seconds and answers LOADING meanwhile


@dataclass
class Place:
    """A gateway on a server of its own, and a client of it."""

    server: BareServer
    redis: Redis
    client: Client

    async def problems(self) -> list[str]:
        """What /readyz names, which it does in time."""
        before = time.monotonic()
        response = await self.client.get("/readyz")
        assert time.monotonic() - before < PROBES_SECONDS_MAX
        problems = response.json()["problems"]
        assert response.status_code == (503 if problems else 200)
        return problems

    async def is_ready(self) -> bool:
        return await self.problems() == []


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[BareServer]:
    with bare_server(tmp_path, request.param) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def place(server: BareServer, settings: Settings, user: str) -> AsyncGenerator[Place]:
    own = settings.model_copy(update={"redis_url": server.url})
    redis = connect(server.url)
    async with running_gateway(own) as running, running.client(user) as client:
        assert await Place(server, redis, client).is_ready()
        yield Place(server, redis, client)
    await redis.aclose()


async def test_a_full_disk(place: Place) -> None:
    with place.server.full_disk():
        assert await place.problems() == ["redis"]
        assert problem_of(await place.client.post("/v1/threads", json={}))[0] == 503
    assert await place.is_ready()


async def test_a_replica(place: Place) -> None:
    await place.redis.replicaof("127.0.0.1", "1")
    assert await place.problems() == ["redis"]
    await place.redis.replicaof("NO", "ONE")
    await eventually(place.is_ready)


async def test_too_few_replicas(place: Place) -> None:
    await place.redis.config_set("min-replicas-to-write", 1)
    assert await place.problems() == ["redis"]
    await place.redis.config_set("min-replicas-to-write", 0)
    assert await place.is_ready()


async def test_a_server_that_says_nothing(place: Place) -> None:
    with place.server.paused():
        assert await place.problems() == ["redis"]
    await eventually(place.is_ready)


async def test_a_server_that_loads(place: Place) -> None:
    pipeline = place.redis.pipeline(transaction=False)
    for number in range(KEYS):
        pipeline.set(f"filler:{number}", "")
    await pipeline.execute()
    place.server.end()
    place.server.start("--key-load-delay", str(KEY_MICROSECONDS))
    with place.server.client() as client:
        await eventually(lambda: _is_loading(client))
        assert await place.problems() == ["redis"]
        assert _is_loading(client), "it was ready before it was asked"
    await eventually(place.is_ready)


async def test_full_memory_refuses_what_adds_and_serves_the_rest(place: Place) -> None:
    """It is the request's answer that tells: all gateways share the server, none could help."""
    thread = await place.client.ok("POST", "/v1/threads", json={})
    await place.redis.config_set("maxmemory", 1)
    response = await place.client.post("/v1/jobs", json={"query": "hi"})
    assert problem_of(response) == (503, "log_unavailable")
    assert response.headers["Retry-After"] == "1"
    await place.client.ok("GET", f"/v1/threads/{thread['thread_id']}")
    assert await place.is_ready()


def _is_loading(client: blocking.Redis) -> bool:
    """Whether it answers, and that it loads."""
    try:
        client.ping()
    except blocking.ConnectionError as error:
        return isinstance(error, blocking.BusyLoadingError)
    return False
