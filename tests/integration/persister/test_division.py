"""An archive from before there were parts: divided under its writers, and losing nothing."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from alembic import command
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from services.persister.divide import divide_archive
from services.persister.migrate import migrate
from services.persister.periods import DAY_MS, birth
from services.persister.rebuild import rebuild
from services.persister.schema import migrations_config
from shared.postgres import engine_url
from tests.integration.persister.dividing import (
    LATER_MS,
    NOW_MS,
    archive_again,
    entries,
    look,
    parts,
    places,
)
from tests.integration.persister.observing import assert_archived
from tests.integration.persister.tables import archive, read_model
from tests.integration.persister.writer import Writer
from tests.support.servers import Server, fresh_database


@pytest.fixture
def former_url(postgres_server: Server) -> Generator[str]:
    """A database as the version before left it."""
    with fresh_database(postgres_server.url, template="template1") as url:
        engine = create_engine(engine_url(url))
        with engine.begin() as connection:
            config = migrations_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "0007")
        engine.dispose()
        yield url


async def test_an_archive_of_before_is_divided_and_loses_nothing(
    writer: Writer, former_url: str
) -> None:
    engine = create_async_engine(engine_url(former_url))
    await writer.chat()
    logs = await entries(writer)
    await archive_again(engine, logs)
    migrate(former_url)
    await look(engine)
    assert await places(engine) == {"events": 7}, "divided while old persisters may be at it"
    assert divide_archive(former_url, NOW_MS)
    assert not divide_archive(former_url, NOW_MS)
    assert await places(engine) == {"events_lasting": 7}
    assert await archive_again(engine, logs) == 0
    await assert_archived(writer, engine)
    await look(engine)
    assert (await parts(engine))[1].begins == birth(NOW_MS // DAY_MS * DAY_MS + 7 * DAY_MS)
    assert await rebuild(engine, lambda _: None) == []
    await engine.dispose()


async def test_jobs_of_before_the_division_are_deleted_in_time(
    writer: Writer, former_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.persister.expiry.JOBS_PER_STEP", 2)
    engine = create_async_engine(engine_url(former_url))
    for _ in range(5):
        await writer.chat()
    await writer.begin(running := await writer.ask())
    logs = await entries(writer)
    await archive_again(engine, logs)
    migrate(former_url)
    await look(engine, LATER_MS, days=40)
    assert await places(engine) == {"events": 38}, "nothing could tell what comes again"
    divide_archive(former_url, NOW_MS)
    before = await read_model(engine)
    await look(engine, NOW_MS + 39 * DAY_MS, days=40)
    assert sum((await places(engine)).values()) == 38
    await look(engine, LATER_MS, days=40)
    left = [record for records in (await archive(engine)).values() for record in records]
    assert [record.seq for record in left if record.stream == running.job_id] == [1]
    assert len(left) == 13
    assert await read_model(engine) == before
    assert await rebuild(engine, lambda _: None) == []
    assert await archive_again(engine, logs) == 0
    await engine.dispose()
