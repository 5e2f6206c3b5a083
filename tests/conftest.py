"""What tests of every kind ask for: a flushed Redis, a fresh and migrated database."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from infra.local.errors import PartError
from shared.redis_client import Redis, connect
from tests.support.servers import (
    Makers,
    Server,
    create_template,
    empty_and_open,
    fresh_database,
    running_postgres,
    running_valkey,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("servers")
    group.addoption("--redis-image", help="a container of it instead of the wheel's Valkey")
    group.addoption("--postgres-image", help="a container of it instead of the wheel's PostgreSQL")
    group.addoption("--redis-server", type=Path, help="instead of Valkey: of faults, of a cluster")


def pytest_configure() -> None:
    """Whoever runs the tests in the background has SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header(config: pytest.Config) -> str:
    redis, postgres = _images(config)
    return f"servers: {redis or 'embedded Valkey'}, {postgres or 'embedded PostgreSQL'}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if any(_images(item.config)) and item.get_closest_marker("embedded"):
        pytest.skip("needs the embedded servers; make test runs it")


def _images(config: pytest.Config) -> tuple[str | None, str | None]:
    return config.getoption("--redis-image"), config.getoption("--postgres-image")


@pytest.fixture(scope="session")
def makers(pytestconfig: pytest.Config) -> Generator[Makers]:
    """What makes the servers of every test: containers of the images that were asked for, and the
    embedded servers otherwise."""
    redis, postgres = _images(pytestconfig)
    if not (redis or postgres):
        yield Makers()
        return
    from tests.support.container_engine import engine  # most runs need none of it
    from tests.support.containers import postgres_in, redis_in

    embedded = Makers()
    try:
        with engine(*filter(None, (redis, postgres))):
            yield Makers(
                redis_in(redis) if redis else embedded.redis,
                postgres_in(postgres) if postgres else embedded.postgres,
            )
    except PartError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.fixture(scope="session")
def valkey_server(makers: Makers, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """The session's Valkey, or another Redis; to take it away, not to talk to."""
    with running_valkey(tmp_path_factory.mktemp("valkey"), makers.redis) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(makers: Makers, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """The session's PostgreSQL, with a template to copy databases from."""
    with running_postgres(tmp_path_factory.mktemp("postgres"), makers.postgres) as server:
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
