"""What the machine tells about processes and ports, mostly from /proc."""

from __future__ import annotations

import random
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
LISTENING = "0A"  # the state column of /proc/net/tcp
# Below the range the kernel takes for outgoing connections (32768 and up), so that a server that
# is restarted finds its port as it left it.
PORTS_FOR_SERVERS = range(20_000, 30_000)
PORT_TRIES_MAX = 100


def process_mark(pid: int) -> str | None:
    """Names one life of a pid: the same pid used again later has another mark.

    None when no such process runs (one that ended but was not collected does not run).
    """
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None if PROC.joinpath("self").exists() else _mark_by_ps(pid)
    state, *fields = stat.rpartition(")")[2].split()
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return None if state in "ZX" else f"{boot}/{fields[18]}"


def _mark_by_ps(pid: int) -> str | None:
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout or None


def process_command(pid: int) -> str:
    """The command line of a process, in one line; empty when it cannot be read."""
    try:
        return (PROC / str(pid) / "cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on `port` now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A loopback port nobody listens on, that outgoing connections do not take either."""
    for port in random.sample(PORTS_FOR_SERVERS, PORT_TRIES_MAX):
        if port_is_free(port):
            return port
    raise OSError(f"none of {PORT_TRIES_MAX} ports tried is free")


def port_owner(port: int) -> str | None:
    """Who listens on a TCP port, as `pid 123 (command line)`; None when that cannot be found."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for process in PROC.glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is somebody else's
            if any(str(fd.readlink()) in sockets for fd in (process / "fd").iterdir()):
                return f"pid {process.name} ({process_command(int(process.name))})"
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes: set[str] = set()
    for table in (PROC / "net/tcp", PROC / "net/tcp6"):
        with suppress(OSError):
            for row in table.read_text().splitlines()[1:]:
                column = row.split()
                if column[3] == LISTENING and int(column[1].rpartition(":")[2], 16) == port:
                    inodes.add(column[9])
    return inodes
