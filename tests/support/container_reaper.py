"""Removes the containers of a test run when the run is over, however it ended.

    pytest ──── pipe ────▶ this process, in a session of its own, so that ^C does not reach it
       │                      │  the pipe ends: pytest is gone, or says that it is done
       └─▶ containers ◀───────┘  removed by the label that Testcontainers gives all of a run

It is what Testcontainers' own reaper (Ryuk) does, without its image, and without handing the
engine's socket to a container.

Failures: pytest is killed while the engine makes a container for it: looked for once more, later.
The reaper is killed as well: the containers stay, and the label `org.testcontainers` finds them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from docker.errors import NotFound
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.labels import LABEL_SESSION_ID

LATE_SECONDS = 3.0  # for the engine to carry out what it was asked for last
END_SECONDS_MAX = 60.0
DONE = b"done"


@contextmanager
def reaper(session: str) -> Generator[None]:
    """At the end of the block, or of this process, the containers of `session` are removed."""
    command = [sys.executable, "-m", "tests.support.container_reaper", session]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield
        finally:
            process.communicate(DONE, timeout=END_SECONDS_MAX)
    assert process.returncode == 0, "containers may be left: docker ps --all"


def main(session: str) -> None:
    """Wait for the end of standard input, then remove."""
    was_killed = sys.stdin.buffer.read() != DONE
    remove(session)
    if was_killed:
        time.sleep(LATE_SECONDS)
        remove(session)


def remove(session: str) -> None:
    """Remove the containers of a run with their volumes, whether they run or not."""
    engine = DockerClient().client
    label = f"{LABEL_SESSION_ID}={session}"
    for container in engine.containers.list(all=True, filters={"label": label}, sparse=True):
        try:
            container.remove(force=True, v=True)
        except NotFound:  # it was being removed
            continue
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1])
