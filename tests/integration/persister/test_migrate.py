"""The schema: as the code describes it, made once, by whoever comes first."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, text

from services.persister.schema import migrations_config, newest_revision, require_schema
from shared import postgres
from shared.archive import Archive
from shared.errors import ArchiveUnavailable, DeploymentError
from shared.read_model import SCHEMA_REVISION, metadata
from tests.support.servers import Server, fresh_database

MIGRATE = [sys.executable, "-m", "services.persister.migrate"]
NOBODY_LISTENS = "postgresql://headwater@127.0.0.1:1/headwater"


@pytest.fixture
def empty_url(postgres_server: Server) -> Generator[str]:
    with fresh_database(postgres_server.url, template="template1") as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Generator[Engine]:
    engine = create_engine(postgres.engine_url(database_url))
    yield engine
    engine.dispose()


def test_the_migrated_tables_are_those_of_the_read_model(engine: Engine) -> None:
    with engine.connect() as connection:
        opts = {"compare_server_default": True, "include_name": is_no_part}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, metadata) == []


def is_no_part(name: str | None, *_: object) -> bool:
    """Not of the archive, which the persisters divide as time goes by."""
    return name is None or not name.startswith(("events_lasting", "events_unplaced"))


@pytest.mark.parametrize("catalog", ["columns", "indexes"])
def test_the_migrated_catalog_is_what_the_read_model_would_create(
    engine: Engine, postgres_server: Server, catalog: str
) -> None:
    """Alembic's comparison does not look at everything, such as the expressions of an index."""
    query = {
        "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'public'",
        "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes"
        " WHERE schemaname = 'public'",
    }[catalog]
    with fresh_database(postgres_server.url, template="template1") as url:
        other = create_engine(postgres.engine_url(url))
        metadata.create_all(other)
        with other.connect() as connection:
            created = {tuple(row) for row in connection.execute(text(query))}
        other.dispose()
    with engine.connect() as connection:
        migrated = {tuple(row) for row in connection.execute(text(query))}
    own = {row for row in migrated if row[0] != "alembic_version" and is_no_part(row[0])}
    assert own == created


def test_four_at_once_migrate_an_empty_database(empty_url: str) -> None:
    started = [_migrate(empty_url) for _ in range(4)]
    answers = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0] * 4, answers
    upgrades = sum("Running upgrade" in stderr for _, stderr in answers)
    assert upgrades == 1


def test_a_database_that_is_away_is_named(empty_url: str) -> None:
    process = _migrate(NOBODY_LISTENS)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.startswith("migrate: the database could not be migrated: connection")
    assert "Traceback" not in stderr


@pytest.mark.parametrize("revision", ["0007", "0099"], ids=["older", "newer"])
async def test_an_older_schema_is_refused_and_a_newer_one_is_not(
    database_url: str, engine: Engine, revision: str
) -> None:
    """Gateways and workers, which ask the archive, are not ready with an older one."""
    asynchronous = postgres.create_engine(database_url, application="test")
    await require_schema(asynchronous)
    await Archive(asynchronous).ping()
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})
    if revision > SCHEMA_REVISION:
        await require_schema(asynchronous)
        await Archive(asynchronous).ping()
    else:
        with pytest.raises(DeploymentError, match=f"revision {revision}.*{SCHEMA_REVISION}"):
            await require_schema(asynchronous)
        with pytest.raises(ArchiveUnavailable, match=f"schema is {revision}"):
            await Archive(asynchronous).ping()
    await asynchronous.dispose()


def test_revisions_are_compared_as_text() -> None:
    scripts = ScriptDirectory.from_config(migrations_config())
    revisions = sorted(script.revision for script in scripts.walk_revisions())
    assert revisions == [f"{number:04}" for number in range(1, len(revisions) + 1)]
    assert newest_revision() == revisions[-1] >= SCHEMA_REVISION


async def test_a_database_without_schema_is_refused(empty_url: str) -> None:
    asynchronous = postgres.create_engine(empty_url, application="test")
    with pytest.raises(DeploymentError, match="revision none"):
        await require_schema(asynchronous)
    await asynchronous.dispose()


def _migrate(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        MIGRATE, env={"HEADWATER_DATABASE_URL": url}, stderr=subprocess.PIPE, text=True
    )
