"""One gateway, one worker, one user: what most tests of the HTTP surface need."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from shared.event_log import EventLog
from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.api.gateways import (
    PARTITIONS,
    Client,
    Running,
    running_gateway,
    settings_for,
)
from tests.integration.api.worker import Worker, edited_scripts


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
def silent_log(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EventLog:
    """A log whose publishes are lost."""
    publish = "redis.call('SPUBLISH', thread, table.concat(lines, '\\n'))"
    folder = edited_scripts(tmp_path, {"append_events": (publish, "")})
    with monkeypatch.context() as patch:
        patch.setattr("shared.redis_scripts.files", lambda _: folder)
        return EventLog(redis, PARTITIONS)


@pytest.fixture
async def worker(redis: Redis, silent_log: EventLog) -> Worker:
    worker = Worker(redis, silent_log=silent_log)
    await worker.prepare()
    return worker
