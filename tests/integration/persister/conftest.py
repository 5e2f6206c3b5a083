"""A log to write to, and a database to look at."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.postgres import create_engine
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
    engine = create_engine(database_url, application="test")
    yield engine
    await engine.dispose()


@pytest.fixture
def settings(redis_url: str, database_url: str) -> Settings:
    return settings_for(redis_url, database_url, name="persister-1")
