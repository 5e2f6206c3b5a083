"""One server by itself, for as long as a `with` block runs: what a test of one service needs."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from infra.local.machine import free_port
from infra.local.postgres import postgres_part, postgres_url
from infra.local.supervisor import Supervisor
from infra.local.valkey import valkey_part, valkey_url

PASSWORD_BYTES = 16


@contextmanager
def valkey_server(folder: Path, binary: Path | None = None) -> Generator[str, None, None]:
    """The URL of a Valkey (or of the server `binary`) with its data and log in `folder`."""
    port, password = free_port(), secrets.token_hex(PASSWORD_BYTES)
    log = folder / "valkey.log"
    with Supervisor([valkey_part(folder / "redis", port, password, log=log, binary=binary)]):
        yield valkey_url(port, password)


@contextmanager
def postgres_server(folder: Path) -> Generator[str, None, None]:
    """The URL of an empty PostgreSQL database with its data and log in `folder`."""
    port, password = free_port(), secrets.token_hex(PASSWORD_BYTES)
    log = folder / "postgres.log"
    with Supervisor([postgres_part(folder / "postgres", port, password, log=log)]):
        yield postgres_url(port, password)
