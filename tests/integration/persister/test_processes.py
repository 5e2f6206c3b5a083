"""Persisters as processes: killed at the worst moments, paused, told to stop."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.persister.observing import assert_archived, expiring, pending
from tests.integration.persister.processes import persister
from tests.integration.persister.running import eventually, is_consumed
from tests.integration.persister.tables import archive
from tests.integration.persister.writer import Writer

KILLS = 5
PAUSE_MS = 60_000


@pytest.fixture
def other(settings: Settings) -> Settings:
    return settings.model_copy(update={"consumer_name": "persister-2"})


async def test_killed_in_the_middle_of_a_batch(
    writer: Writer, settings: Settings, other: Settings, engine: AsyncEngine, tmp_path: Path
) -> None:
    command = await writer.chat(["x"] * 500)
    async with engine.connect() as connection:
        await connection.execute(text("LOCK TABLE jobs"))
        with persister(settings, tmp_path) as process:
            await eventually(lambda: _blocked(engine))
            process.kill()
        await connection.rollback()
    assert await archive(engine) == {}
    assert set((await pending(writer.redis)).values()) == {b"persister-1"}
    with persister(other, tmp_path):
        await eventually(lambda: is_consumed(writer.redis))
    await assert_archived(writer, engine)
    assert await expiring(writer, command) == [True] * 3


async def test_killed_between_commit_and_acknowledgement(
    writer: Writer,
    settings: Settings,
    other: Settings,
    engine: AsyncEngine,
    redis: Redis,
    tmp_path: Path,
) -> None:
    """Postgres holds the batch until Redis takes no more writes: then only the commit happens."""
    command = await writer.chat(["x"] * 500)
    async with engine.connect() as connection:
        await connection.execute(text("LOCK TABLE jobs"))
        with persister(settings, tmp_path) as process:
            await eventually(lambda: _blocked(engine))
            await redis.execute_command("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
            try:
                await connection.rollback()
                await eventually(lambda: _count(engine, 504))
                process.kill()
            finally:
                await redis.execute_command("CLIENT", "UNPAUSE")
    assert len(await pending(redis)) == 504
    assert await expiring(writer, command) == [False] * 3
    with persister(other, tmp_path):
        await eventually(lambda: is_consumed(redis))
    await assert_archived(writer, engine)
    assert await expiring(writer, command) == [True] * 3


async def test_killed_again_and_again_under_load(
    writer: Writer, settings: Settings, other: Settings, engine: AsyncEngine, tmp_path: Path
) -> None:
    with persister(other, tmp_path) as steady:
        await eventually(steady.is_ready)
        for _ in range(KILLS):
            with persister(settings, tmp_path) as victim:
                await eventually(victim.is_ready)
                async with engine.connect() as connection:
                    await connection.execute(text("LOCK TABLE jobs"))
                    await eventually(lambda: _give_work_to(writer, b"persister-1"))
                    victim.kill()
        await eventually(lambda: is_consumed(writer.redis))
    await assert_archived(writer, engine)


async def _give_work_to(writer: Writer, consumer: bytes) -> bool:
    """What one persister holds it cannot commit, so the next entries are the other's."""
    await writer.chat(["x"] * 50)
    return consumer in (await pending(writer.redis)).values()


async def test_paused_for_longer_than_its_lease(
    writer: Writer, settings: Settings, other: Settings, engine: AsyncEngine, tmp_path: Path
) -> None:
    """A zombie commits what somebody else has archived meanwhile: nothing changes."""
    await writer.chat(["x"] * 500)
    async with engine.connect() as connection:
        await connection.execute(text("LOCK TABLE jobs"))
        with persister(settings, tmp_path) as zombie:
            await eventually(lambda: _blocked(engine))
            zombie.signal(signal.SIGSTOP)
            await connection.rollback()
            with persister(other, tmp_path):
                await eventually(lambda: is_consumed(writer.redis))
                await assert_archived(writer, engine)
                zombie.signal(signal.SIGCONT)
                await writer.chat()
                await eventually(zombie.is_ready)
                await eventually(lambda: is_consumed(writer.redis))
    await assert_archived(writer, engine)


async def test_told_to_stop_it_leaves_nothing_pending(
    writer: Writer, settings: Settings, engine: AsyncEngine, tmp_path: Path
) -> None:
    with persister(settings, tmp_path) as process:
        await eventually(process.is_ready)
        await writer.chat(["x"] * 200)
        assert process.terminate() == 0, process.log.read_text()
        assert not process.ready_file.exists()
    with persister(settings, tmp_path):
        await eventually(lambda: is_consumed(writer.redis))
    await assert_archived(writer, engine)


@pytest.mark.parametrize("away", ["redis_url", "database_url"])
async def test_a_server_that_is_away_ends_it_with_an_error(
    settings: Settings, tmp_path: Path, away: str
) -> None:
    nobody = {"redis_url": "redis://127.0.0.1:1/0", "database_url": "postgresql://h@127.0.0.1:1/h"}
    with persister(settings.model_copy(update={away: nobody[away]}), tmp_path) as process:
        assert process.process.wait(timeout=20) == 1
        lines = process.log.read_text().splitlines()
        assert lines[-1].startswith("persister: ")
        assert not [line for line in lines if "Traceback" in line]


async def _blocked(engine: AsyncEngine) -> bool:
    """Whether a round waits at the table of jobs."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    query += " AND query LIKE '%INSERT INTO jobs%' AND query NOT LIKE '%pg_stat_activity%'"
    async with engine.connect() as connection:
        return bool(await connection.scalar(text(query)))


async def _count(engine: AsyncEngine, count: int) -> bool:
    async with engine.connect() as connection:
        return await connection.scalar(text("SELECT count(*) FROM events")) == count
