"""The console with the settings of a cluster, and work for it to find."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.postgres import create_engine
from shared.redis_client import Redis
from tests.integration.console.desk import Desk
from tests.integration.console.program import Program
from tests.integration.orchestrator.workers import Bench
from tests.integration.persister.writer import PARTITIONS, Writer

SECRET = "a secret that is long enough for HS256"


@pytest.fixture
async def program(redis_url: str, database_url: str) -> AsyncGenerator[Program]:
    program = Program(
        {
            "HEADWATER_REDIS_URL": redis_url,
            "HEADWATER_DATABASE_URL": database_url,
            "HEADWATER_AUTH_SECRET": SECRET,
            "HEADWATER_PARTITIONS": str(PARTITIONS),
        }
    )
    yield program
    await program.end()


@pytest.fixture
async def writer(redis: Redis) -> Writer:
    writer = Writer(redis)
    await writer.prepare()
    return writer


@pytest.fixture
async def job_id(writer: Writer) -> str:
    """A job that waits in Redis."""
    return (await writer.ask()).job_id


@pytest.fixture(autouse=True)
def _plain_log() -> Generator[None]:
    """Warnings, a line each: the console's own way with a traceback takes seconds."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
def desk(
    program: Program, writer: Writer, redis_url: str, database_url: str, tmp_path: Path
) -> Desk:
    bench = Bench(redis_url, "http://127.0.0.1:9", tmp_path)
    bench.agent("default", "scripted")
    return Desk(program, writer, bench, database_url)


@pytest.fixture
async def engine(database_url: str) -> AsyncGenerator[AsyncEngine]:
    engine = create_engine(database_url, application="test")
    yield engine
    await engine.dispose()
