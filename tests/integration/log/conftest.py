"""A prepared, empty log on a real server."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.support.log_server import ChannelEar, LogServer, RepeatingRedis, connect_repeating


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
