"""A prepared, empty log on a real server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import pytest
import redis as blocking

from tests.support.log_server import ChannelEar, LogServer, RepeatingRedis, connect_repeating


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
