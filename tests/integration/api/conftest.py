"""One gateway, one worker, one user: what most tests of the HTTP surface need."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.api.gateways import Client, Running, running_gateway, settings_for
from tests.integration.api.worker import Worker


@pytest.fixture
def settings(redis_url: str, database_url: str) -> Settings:
    return settings_for(redis_url, database_url)


@pytest.fixture
async def gateway(settings: Settings) -> AsyncGenerator[Running]:
    async with running_gateway(settings) as running:
        yield running


@pytest.fixture
async def client(gateway: Running) -> AsyncGenerator[Client]:
    """Alice's."""
    async with gateway.client() as client:
        yield client


@pytest.fixture
async def worker(redis: Redis) -> Worker:
    worker = Worker(redis)
    await worker.prepare()
    return worker
