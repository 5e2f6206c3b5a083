"""`services.persister.keep` as a process: once, and until it is told to stop. It needs no Redis."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.settings import Settings
from tests.integration.persister.dividing import look, parts
from tests.integration.persister.processes import EXIT_SECONDS_MAX, PersisterProcess, persister
from tests.integration.persister.running import eventually

KEEP = ("-m", "services.persister.keep")
WATCH = (*KEEP, "--watch")
NO_REDIS = "redis://127.0.0.1:1/0"
NO_POSTGRES = "postgresql://headwater@127.0.0.1:1/headwater"
ROLE = "keeps_no_archive"
each_way = pytest.mark.parametrize("program", [KEEP, WATCH], ids=["once", "watch"])


@pytest.fixture
def alone(settings: Settings) -> Settings:
    return settings.model_copy(update={"redis_url": NO_REDIS})


@pytest.fixture
def powerless(alone: Settings) -> Generator[Settings]:
    """As a role that writes rows and changes no table."""
    url = alone.required("database_url")
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'")
        admin.execute(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE}"
        )
        server = f"{admin.info.host}:{admin.info.port}/{admin.info.dbname}"
        yield alone.model_copy(update={"database_url": f"postgresql://{ROLE}:{ROLE}@{server}"})
        admin.execute(f"DROP OWNED BY {ROLE}")
        admin.execute(f"DROP ROLE {ROLE}")


async def test_once_it_does_what_is_due_and_ends(
    alone: Settings, engine: AsyncEngine, tmp_path: Path
) -> None:
    with persister(alone, tmp_path, program=KEEP) as process:
        assert _exit_code(process) == 0, process.log.read_text()
    assert await _periods(engine) > 1
    assert not process.ready_file.exists()


async def test_it_goes_on_looking_until_it_is_told_to_stop(
    alone: Settings, engine: AsyncEngine, tmp_path: Path
) -> None:
    with persister(alone, tmp_path, program=WATCH) as process:
        await eventually(process.is_ready)
        await eventually(lambda: _made(engine))
        assert process.terminate() == 0, process.log.read_text()
    assert not process.ready_file.exists()
    said = process.log.read_text()
    assert "Traceback" not in said
    assert "drain cut short" not in said


async def test_a_lock_in_the_way_is_waited_for_and_keeps_nobody_from_stopping_it(
    alone: Settings, engine: AsyncEngine, tmp_path: Path
) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("LOCK TABLE events_unplaced"))
        with persister(alone, tmp_path, program=WATCH) as process:
            await eventually(lambda: _says(process, "archive not kept"))
            await eventually(process.is_ready)
            assert process.terminate() == 0, process.log.read_text()
    assert await _periods(engine) == 0


@each_way
async def test_a_role_that_may_not_change_tables_ends_it(
    powerless: Settings, engine: AsyncEngine, tmp_path: Path, program: tuple[str, ...]
) -> None:
    """Also while nothing is due: not months later, when a period is."""
    await look(engine)
    with persister(powerless, tmp_path, program=program) as process:
        assert _exit_code(process) == 1
    assert "may not change the archive's tables" in process.log.read_text()


@each_way
async def test_a_server_that_is_away_ends_it_with_a_line(
    alone: Settings, tmp_path: Path, program: tuple[str, ...]
) -> None:
    away = alone.model_copy(update={"database_url": NO_POSTGRES})
    with persister(away, tmp_path, program=program) as process:
        assert _exit_code(process) == 1
    lines = process.log.read_text().splitlines()
    assert lines[-1].startswith("keep: Postgres is unavailable")
    assert not [line for line in lines if "Traceback" in line]


def _exit_code(process: PersisterProcess) -> int:
    return process.process.wait(EXIT_SECONDS_MAX)


async def _periods(engine: AsyncEngine) -> int:
    return sum(part.name[7:].isdigit() for part in await parts(engine))


async def _made(engine: AsyncEngine) -> bool:
    return await _periods(engine) >= 2


async def _says(process: PersisterProcess, line: str) -> bool:
    return line in process.log.read_text()
