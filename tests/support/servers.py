"""Real servers for tests, that can be taken away for a while, and databases of one's own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg
import redis
from psycopg import sql

from infra.local.machine import free_port
from infra.local.part import MakeServer, Part, PartState
from infra.local.postgres import postgres_part, postgres_url
from infra.local.supervisor import Supervisor
from infra.local.valkey import valkey_part, valkey_url
from services.persister.migrate import migrate
from shared.keys import PartitionKeys

RESTART_SECONDS_MAX = 30.0
STEP_SECONDS = 0.02
TEMPLATE = "headwater_template"
PARTITIONS_OPENED = 8  # as many as any test has


@dataclass(frozen=True)
class Makers:
    """What makes the servers that tests run against."""

    redis: MakeServer = valkey_part
    postgres: MakeServer = postgres_part


@dataclass(frozen=True)
class Server:
    """A server that runs, and can be taken away for a while."""

    name: str
    url: str
    supervisor: Supervisor

    def hold(self) -> None:
        """Kill it with SIGKILL and keep it down; returns when it is."""
        self.supervisor.hold(self.name)

    def release(self) -> None:
        """Start it again, on the same port and data; returns when it answers."""
        self.supervisor.release(self.name)
        deadline = time.monotonic() + RESTART_SECONDS_MAX
        while self.supervisor.keeper(self.name).state is not PartState.READY:
            assert time.monotonic() < deadline, f"{self.name} did not come back"
            time.sleep(STEP_SECONDS)

    @contextmanager
    def away(self) -> Generator[None]:
        """Down for the length of the block."""
        self.hold()
        try:
            yield
        finally:
            self.release()


@contextmanager
def running_valkey(folder: Path, make: MakeServer = valkey_part) -> Generator[Server]:
    """Valkey, or what `make` makes, with its data in `folder`, until the block ends."""
    port, password = free_port(), secrets.token_hex(8)
    part = make(folder / "valkey", port, password, log=folder / "valkey.log")
    with _running(part, valkey_url(port, password)) as server:
        yield server


@contextmanager
def running_postgres(folder: Path, make: MakeServer = postgres_part) -> Generator[Server]:
    """PostgreSQL with its data in `folder`, until the block ends."""
    port, password = free_port(), secrets.token_hex(8)
    part = make(folder / "postgres", port, password, log=folder / "postgres.log")
    with _running(part, postgres_url(port, password)) as server:
        yield server


@contextmanager
def _running(part: Part, url: str) -> Generator[Server]:
    with Supervisor([part]) as supervisor:
        yield Server(part.name, url, supervisor)


def create_template(server_url: str) -> None:
    """A migrated, empty database that others are copied from."""
    _administer(server_url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    migrate(database_url_of(server_url, TEMPLATE))


@contextmanager
def fresh_database(server_url: str, *, template: str = TEMPLATE) -> Generator[str]:
    """The URL of a database of one's own, which is dropped in the end, used or not."""
    name = sql.Identifier(database := f"test_{secrets.token_hex(6)}")
    copied = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template))
    _administer(server_url, copied)
    yield database_url_of(server_url, database)
    _administer(server_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def empty_and_open(redis_url: str) -> None:
    """Flush a server, and open its partitions for writing: no archive knows more than it."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    open_partitions(redis_url)


def open_partitions(redis_url: str) -> None:
    """What a persister does after a restart when there is nothing to restore."""
    with redis.Redis.from_url(redis_url) as client:
        run_id = cast("Any", client.info("server"))["run_id"]
        facts = {"run": run_id, "life": secrets.token_hex(8), "verified": "1"}
        for partition in range(PARTITIONS_OPENED):
            cast("Any", client).hset(PartitionKeys(partition).meta, mapping=facts)


def database_url_of(server_url: str, database: str) -> str:
    """The same server, another database."""
    return f"{server_url.rsplit('/', 1)[0]}/{database}"


def _administer(server_url: str, statement: sql.Composed) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(statement)
