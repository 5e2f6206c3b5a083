"""Stores in which every service has its own user, as those of compose.yaml, without containers."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from infra.container.rights import users, users_file
from infra.local.machine import free_port
from infra.local.postgres import find_programs, postgres_part, postgres_url
from infra.local.supervisor import Supervisor
from infra.local.valkey import valkey_part
from tests.support.servers import Server

ROLES_FILE = Path(__file__).parents[2] / "infra" / "container" / "roles.sql"
ROLES = ("owner", "persister", "api", "orchestrator")
ADMIN = "admin"
NAMES = (ADMIN, *(user.name for user in users()))
PROBE_SECONDS_MAX = 1.0
ROLES_SECONDS_MAX = 30


@dataclass(frozen=True)
class Confined:
    """A store, and its address for each of its users."""

    server: Server
    urls: Mapping[str, str]


@contextmanager
def confined_valkey(folder: Path) -> Generator[Confined]:
    """Valkey with the users of users.acl; each one's password is its name."""
    port, acl = free_port(), folder / "users.acl"
    rules = users_file()
    for name in NAMES:
        digest = hashlib.sha256(name.encode()).hexdigest()
        rules = rules.replace(f"#@{name.upper()}@", f"#{digest}")
    acl.write_text(rules)
    part = valkey_part(folder / "valkey", port, "none", log=folder / "valkey.log")
    part = replace(
        part, command=(*part.command, "--aclfile", str(acl)), ready=lambda: _says_pong(port)
    )
    urls = {name: f"redis://{name}:{name}@127.0.0.1:{port}/0" for name in NAMES}
    with Supervisor([part]) as supervisor:
        yield Confined(Server(part.name, urls[ADMIN], supervisor), urls)


@contextmanager
def confined_postgres(folder: Path) -> Generator[Confined]:
    """PostgreSQL with the roles of roles.sql, whose passwords are their names; no tables yet."""
    port = free_port()
    part = postgres_part(folder / "postgres", port, ADMIN, log=folder / "postgres.log")
    admin = postgres_url(port, ADMIN)
    urls = {role: admin.replace("headwater:admin", f"headwater_{role}:{role}") for role in ROLES}
    with Supervisor([part]) as supervisor:
        make_roles(admin)
        yield Confined(Server(part.name, admin, supervisor), {ADMIN: admin, **urls})


def make_roles(admin_url: str) -> None:
    """Run roles.sql, as the image of Postgres does."""
    passwords = {f"POSTGRES_{role.upper()}_PASSWORD": role for role in ROLES}
    psql = str(find_programs() / "psql")
    subprocess.run(
        [psql, "--no-psqlrc", "--quiet", "--dbname", admin_url, "--file", str(ROLES_FILE)],
        env={**os.environ, **passwords},
        check=True,
        capture_output=True,
        timeout=ROLES_SECONDS_MAX,
    )


def _says_pong(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PROBE_SECONDS_MAX) as link:
            link.sendall(b"PING\r\n")
            return link.recv(64) == b"+PONG\r\n"
    except OSError:
        return False
