"""A gateway, a worker and a user: what most tests of the HTTP surface need.

Stores, gateway and worker last for a module, in one loop; every test is a user of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Generator

import pytest
import pytest_asyncio

from shared.event_log import EventLog
from shared.redis_client import Redis, connect
from shared.settings import Settings
from tests.integration.api.gateways import (
    PARTITIONS,
    Client,
    Running,
    running_gateway,
    settings_for,
)
from tests.integration.api.worker import Worker, edited_scripts
from tests.support.servers import Server, empty_and_open, fresh_database


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder run in the loop of their module, where the gateway lives."""
    for item in items:
        if "integration/api" in item.path.as_posix():
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest.fixture(scope="module")
def settings(
    valkey_server: Server, postgres_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Settings]:
    """Of a gateway on an empty Valkey, a fresh database and an empty folder."""
    empty_and_open(valkey_server.url)
    folder = tmp_path_factory.mktemp("data")
    with fresh_database(postgres_server.url) as database_url:
        yield settings_for(valkey_server.url, database_url, data_dir=folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redis(settings: Settings) -> AsyncGenerator[Redis]:
    """The test's own client."""
    client = connect(settings.required("redis_url"))
    yield client
    await client.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(settings: Settings) -> AsyncGenerator[Running]:
    async with running_gateway(settings) as running:
        yield running


@pytest.fixture
def user() -> str:
    return f"user-{secrets.token_hex(4)}"


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway: Running, user: str) -> AsyncGenerator[Client]:
    """The user's."""
    async with gateway.client(user) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> Worker:
    worker = Worker(redis, silent_log=_silent_log(redis, tmp_path_factory))
    await worker.prepare()
    return worker


def _silent_log(redis: Redis, folders: pytest.TempPathFactory) -> EventLog:
    """A log whose publishes are lost."""
    publish = "redis.call('SPUBLISH', thread, table.concat(lines, '\\n'))"
    folder = edited_scripts(folders.mktemp("scripts"), {"append_events": (publish, "")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.redis_scripts.files", lambda _: folder)
        return EventLog(redis, PARTITIONS)
