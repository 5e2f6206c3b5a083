"""What tests of every kind ask for: a flushed Redis, a fresh and migrated database."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, Generator

import pytest

from shared.redis_client import Redis, connect
from tests.support.servers import (
    Server,
    create_template,
    empty_and_open,
    fresh_database,
    running_postgres,
    running_valkey,
)


def pytest_configure() -> None:
    """Whoever runs the tests in the background has SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """The session's Valkey; to take it away, not to talk to."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """The session's PostgreSQL, with a template to copy databases from."""
    with running_postgres(tmp_path_factory.mktemp("postgres")) as server:
        create_template(server.url)
        yield server


@pytest.fixture
def redis_url(valkey_server: Server) -> str:
    """The address of a Valkey that is empty, and open for writing, when the test begins."""
    empty_and_open(valkey_server.url)
    return valkey_server.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis]:
    """A client of it, as the services make theirs."""
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def database_url(postgres_server: Server) -> Generator[str]:
    """The address of an empty database with the newest schema, the test's own."""
    with fresh_database(postgres_server.url) as url:
        yield url
