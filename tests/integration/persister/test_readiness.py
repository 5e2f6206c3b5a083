"""A persister says that it is ready exactly while what is added to the log would be archived."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest
from sqlalchemy import text

from services.persister import app
from services.persister.app import Persister
from shared.postgres import create_engine
from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.persister.running import eventually, is_consumed, running
from tests.integration.persister.writer import Writer
from tests.support.bare_server import SERVERS, BareServer, bare_server
from tests.support.servers import Server

PROBES_SECONDS_MAX = 3.0
NEVER_SECONDS = 3600.0


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[BareServer]:
    with bare_server(tmp_path, request.param) as server:
        yield server


@pytest.fixture
def redis_url(server: BareServer) -> str:
    return server.url


async def is_ready(persister: Persister) -> bool:
    """What it says, which it says in time."""
    async with asyncio.timeout(PROBES_SECONDS_MAX):
        return await persister.is_ready()


async def test_a_full_disk(writer: Writer, settings: Settings, server: BareServer) -> None:
    async with running(settings) as persister:
        assert await is_ready(persister)
        with server.full_disk():
            assert not await is_ready(persister)
        assert await is_ready(persister)
        await writer.chat()
        await eventually(lambda: is_consumed(writer.redis))


async def test_a_replica(settings: Settings, redis: Redis) -> None:
    async with running(settings) as persister:
        await redis.replicaof("127.0.0.1", "1")
        assert not await is_ready(persister)
        await redis.replicaof("NO", "ONE")
        await eventually(lambda: is_ready(persister))


async def test_a_redis_that_says_nothing(settings: Settings, server: BareServer) -> None:
    async with running(settings) as persister:
        with server.paused():
            assert not await is_ready(persister)
        await eventually(lambda: is_ready(persister))


async def test_full_memory_is_what_a_persister_is_there_for(
    settings: Settings, redis: Redis
) -> None:
    async with running(settings) as persister:
        await redis.config_set("maxmemory", 1)
        assert await is_ready(persister)


async def test_postgres_away_is_told_at_once(
    settings: Settings, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "PING_EVERY_SECONDS", NEVER_SECONDS)
    async with running(settings) as persister:
        assert await is_ready(persister)
        with postgres_server.away():
            assert not await is_ready(persister)


async def test_no_service_holds_locks_while_it_is_paused(database_url: str) -> None:
    engine = create_engine(database_url, application="test")
    async with engine.connect() as connection:
        bound = await connection.scalar(text("SHOW idle_in_transaction_session_timeout"))
    await engine.dispose()
    assert bound == "5s"
