"""PgBouncer in transaction mode, in front of a server of a test's own; where it is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from infra.local.machine import free_port
from infra.local.part import Part
from infra.local.supervisor import Supervisor
from infra.local.unprivileged import give_away, unprivileged

SERVER_CONNECTIONS = 6  # fewer than the clients have, so that they must share


def find_pgbouncer() -> Path:
    """The program; the test is skipped where there is none."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip("there is no pgbouncer here (Debian, Ubuntu: apt install pgbouncer)")
    return Path(found)


@contextmanager
def pooled(server_url: str, folder: Path) -> Generator[str]:
    """The URL of the same databases through the pooler, with no setting made for its clients."""
    program, port, server = find_pgbouncer(), free_port(), make_url(server_url)
    folder.mkdir()
    config = folder / "pgbouncer.ini"
    config.write_text(f"""
[databases]
* = host={server.host} port={server.port} user={server.username} password={server.password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {SERVER_CONNECTIONS}
max_client_conn = 200
""")
    config.chmod(0o600)
    for path in (folder, config):
        give_away(path)
    url = server.set(host="127.0.0.1", port=port)
    shown = url.render_as_string(hide_password=False)
    part = Part(
        name="pgbouncer",
        command=unprivileged([str(program), str(config)], needs=(program, config)),
        log=folder / "pgbouncer.log",
        ready=lambda: _answers(shown),
    )
    with Supervisor([part]):
        yield shown


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2, prepare_threshold=None) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False
