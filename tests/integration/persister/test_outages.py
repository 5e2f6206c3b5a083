"""A persister whose servers go away, and one that is told to stop."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister import app
from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.persister.observing import assert_archived, pending
from tests.integration.persister.running import (
    assembled,
    eventually,
    is_consumed,
    running,
)
from tests.integration.persister.writer import Writer
from tests.support.servers import Server

DRAIN_SECONDS_MAX = 2.0


async def test_a_batch_waits_for_postgres(
    writer: Writer, settings: Settings, engine: AsyncEngine, postgres_server: Server
) -> None:
    async with running(settings) as persister:
        assert await persister.is_ready()
        await eventually(lambda: is_consumed(writer.redis))
        with postgres_server.away():
            await writer.chat()
            await eventually(lambda: _unready(persister))
            assert await pending(writer.redis)
        await eventually(persister.is_ready)
        await eventually(lambda: is_consumed(writer.redis))
    await assert_archived(writer, engine)


async def test_a_batch_waits_for_a_postgres_that_takes_no_writes(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    await writer.chat()
    async with running(settings) as persister:
        await eventually(lambda: is_consumed(writer.redis))
        await _set_read_only(engine, "on")
        try:
            await writer.chat()
            await eventually(lambda: _unready(persister))
            await eventually(lambda: _has_pending(writer.redis))
        finally:
            await _set_read_only(engine, "off")
        await eventually(persister.is_ready)
        await eventually(lambda: is_consumed(writer.redis))
    await assert_archived(writer, engine)


async def _set_read_only(engine: AsyncEngine, value: str) -> None:
    """As on a server whose disk is nearly full, or that has become a replica: at once, for all."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text(f"ALTER SYSTEM SET default_transaction_read_only = {value}"))
        await connection.execute(text("SELECT pg_reload_conf()"))


async def test_an_idle_persister_notices_that_postgres_is_away(
    writer: Writer,
    settings: Settings,
    postgres_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "PING_EVERY_SECONDS", 0.05)
    async with running(settings) as persister:
        with postgres_server.away():
            await eventually(lambda: _unready(persister))
        await eventually(persister.is_ready)


async def _unready(persister: app.Persister) -> bool:
    return not await persister.is_ready()


async def test_draining_does_not_wait_for_postgres(
    writer: Writer, settings: Settings, engine: AsyncEngine, postgres_server: Server
) -> None:
    async with running(settings) as persister:
        with postgres_server.away():
            await writer.chat()
            await eventually(lambda: _unready(persister))
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                await persister.drain()
            assert await pending(writer.redis)
    async with running(settings):
        await eventually(lambda: is_consumed(writer.redis))
    await assert_archived(writer, engine)


async def test_draining_finishes_the_batch_in_hand(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    await writer.chat()
    async with running(settings) as persister, engine.connect() as connection:
        await connection.execute(text("LOCK TABLE threads"))
        await writer.chat()
        await eventually(lambda: _has_pending(writer.redis))
        drain = asyncio.create_task(persister.drain())
        await asyncio.wait([drain], timeout=0.2)
        assert not drain.done()
        await connection.rollback()
        await drain
        assert await pending(writer.redis) == {}
        for thread_id in writer.threads:
            log = writer.keys(thread_id).log
            stream: Any = await writer.redis.xinfo_stream(log)
            [group] = cast("Any", await writer.redis.xinfo_groups(log))
            assert stream["first-entry"][0] == group["last-delivered-id"], "the log is not cut"


async def _has_pending(redis: Redis) -> bool:
    return bool(await pending(redis))


async def test_it_may_be_stopped_before_it_is_started_and_twice(
    writer: Writer, settings: Settings
) -> None:
    async with assembled(settings) as persister:
        assert not await persister.is_ready()
        await persister.stop()
        await persister.start()
        await writer.chat()
        await eventually(lambda: is_consumed(writer.redis))
        assert await persister.is_ready()
        await persister.stop()
        await persister.stop()
        assert not await persister.is_ready()
