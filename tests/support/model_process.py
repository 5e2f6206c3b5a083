"""A server of the tests as a process of its own; the scripted model server is one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

STOP_SECONDS_MAX = 10


@dataclass(frozen=True)
class Spawned:
    """A process that serves. ``url`` is what it said of itself."""

    pid: int
    url: str


@contextmanager
def spawned(module: str, *arguments: str) -> Generator[Spawned]:
    """`python -m module`, which prints one line of JSON, with its `url`, once it serves."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Spawned(process.pid, json.loads(process.stdout.readline())["url"])
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:  # on a busy machine; it has nothing to lose
                process.kill()


@contextmanager
def model_process() -> Generator[str]:
    """Its base URL, while it runs."""
    with spawned("tests.support.model_server", "--port", "0") as process:
        yield process.url
