"""A prepared, empty log on a real server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest
import redis as blocking

from shared.redis_client import Redis
from shared.redis_scripts import Call, run
from tests.support.log_server import ChannelEar, LogServer, RepeatingRedis, connect_repeating

Calls = list[Call]


@pytest.fixture
def cut_to_the_letter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Generator[int]:
    """How many archived events stay in a thread's stream, which is cut by single entries.

    Servers cut by whole nodes of 100 entries; here a node holds one.
    """
    kept, name = 3, "stream-node-max-entries"
    monkeypatch.setattr("shared.retention.THREAD_EVENTS_KEPT", kept)
    with blocking.Redis.from_url(redis_url) as client:
        before = client.config_get(name)[name]
        assert before is not None
        client.config_set(name, 1)
        yield kept
        client.config_set(name, before)


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[RepeatingRedis]:
    """A client that can send every script twice."""
    client = connect_repeating(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def server(redis: RepeatingRedis) -> LogServer:
    """The log of one partition."""
    server = LogServer(redis)
    await server.prepare()
    return server


@pytest.fixture
async def ear(server: LogServer) -> AsyncGenerator[ChannelEar]:
    """Hears who is told to cancel; `listen` to a thread's channel to hear its events."""
    ear = ChannelEar(server.redis, server.partitions)
    await ear.listen({})
    yield ear
    await ear.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Every single call of a script, to be sent again."""
    calls: Calls = []

    async def recording(redis: Redis, call: Call) -> Any:
        calls.append(call)
        return await run(redis, call)

    for module in ("event_log", "thread_log"):
        monkeypatch.setattr(f"shared.{module}.run", recording)
    return calls
