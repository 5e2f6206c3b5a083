"""A log to write to, and a database to look at."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from shared.postgres import engine_url
from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.persister.running import settings_for
from tests.integration.persister.writer import Writer


@pytest.fixture
async def writer(redis: Redis) -> Writer:
    writer = Writer(redis)
    await writer.prepare()
    return writer


@pytest.fixture
async def engine(database_url: str) -> AsyncGenerator[AsyncEngine]:
    """Without the bounds of a service: tests hold locks for as long as processes take to start."""
    engine = create_async_engine(engine_url(database_url))
    yield engine
    await engine.dispose()


@pytest.fixture
def settings(redis_url: str, database_url: str) -> Settings:
    return settings_for(redis_url, database_url, name="persister-1")
