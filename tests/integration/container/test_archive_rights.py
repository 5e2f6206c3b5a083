"""The archive's periods, made by the owner of the tables, and what each role may do with them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.migrate import migrate
from shared.archive import Archive
from shared.errors import DeploymentError
from shared.postgres import create_engine
from shared.redis_client import Redis
from tests.integration.persister.dividing import LATER_MS, archive_again, entries, look, places
from tests.integration.persister.writer import PARTITIONS, Writer
from tests.support.confined_stores import Confined, confined_postgres

KEEP = [sys.executable, "-m", "services.persister.keep"]
KEEP_SECONDS_MAX = 60
READERS = ("api", "orchestrator")
KEPT = {"events_lasting": 2, "period": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("postgres")


@pytest.fixture(scope="module")
def postgres(folder: Path) -> Generator[Confined]:
    """Migrated, and kept once."""
    with confined_postgres(folder) as store:
        migrate(store.urls["owner"])
        env = {
            "PATH": os.environ["PATH"],
            "HEADWATER_DATABASE_URL": store.urls["owner"],
            "HEADWATER_PARTITIONS": str(PARTITIONS),
        }
        subprocess.run(KEEP, env=env, check=True, timeout=KEEP_SECONDS_MAX)
        yield store


async def test_a_period_is_written_read_and_let_go_each_by_its_own_role(
    postgres: Confined, redis: Redis, folder: Path
) -> None:
    writer = Writer(redis)
    await writer.prepare()
    asked = await writer.chat()
    logs = await entries(writer)
    async with _as(postgres, "persister") as persister, _as(postgres, "owner") as owner:
        with pytest.raises(DeploymentError, match="may not change"):
            await look(persister, LATER_MS, days=40)
        assert await archive_again(persister, logs) == 7
        assert await places(persister) == KEPT
        for role in READERS:
            async with _as(postgres, role) as reader:
                assert await places(reader) == KEPT
                assert not await _is_settled(reader, asked.job_id)
        await look(owner, LATER_MS, days=40)
        assert await archive_again(persister, logs) == 0, "what was let go came back"
        for role in READERS:
            async with _as(postgres, role) as reader:
                assert await _is_settled(reader, asked.job_id)
                assert await Archive(reader).settled_position(asked.thread_id) == 7
    assert "permission denied" not in (folder / "postgres.log").read_text()


async def _is_settled(engine: AsyncEngine, job_id: str) -> bool:
    job = await Archive(engine).job(job_id)
    assert job is not None
    return job.is_settled


@asynccontextmanager
async def _as(postgres: Confined, role: str) -> AsyncGenerator[AsyncEngine]:
    engine = create_engine(postgres.urls[role], application="test")
    yield engine
    await engine.dispose()
