"""The container engine during a test run: it has the images before, and nothing of the run after.

    pytest ◀── ready ── reaper, a process in a session of its own, so that ^C does not reach it
       │ ───── pipe ──────▶│  the pipe ends: pytest is gone, or says that it is done
       └─▶ containers ◀────┘  removed by the label that Testcontainers gives all of a run

It is what Testcontainers' own reaper (Ryuk) does, without its image, and without handing the
engine's socket to a container.

Failures: no engine, or no such image: PartError, before anything is begun. pytest is killed while
the engine makes a container for it: looked for once more, later. The reaper is killed as well: the
containers stay, and the label `org.testcontainers` finds them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from docker import DockerClient as Engine
from docker.errors import APIError, DockerException, ImageNotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID

from infra.local.errors import PartError

LATE_SECONDS = 3.0  # for the engine to carry out what it was asked for last
END_SECONDS_MAX = 120.0
READY, DONE = "ready\n", "done"
BEING_REMOVED = (404, 409)


@contextmanager
def engine(*images: str) -> Generator[None]:
    """The engine is there and has these images; in the end it has no container of this process."""
    testcontainers_config.ryuk_disabled = True
    command = [sys.executable, "-m", "tests.support.container_engine", SESSION_ID, *images]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, start_new_session=True
    ) as reaper:
        assert reaper.stdout is not None
        if (said := reaper.stdout.readline()) != READY:
            raise PartError("containers", said.strip() or "the reaper did not start")
        try:
            yield
        finally:
            reaper.communicate(DONE, timeout=END_SECONDS_MAX)
    assert reaper.returncode == 0, "containers may be left: docker ps --all"


def main(session: str, *images: str) -> None:
    """Be the reaper."""
    try:
        client = DockerClient().client
        for image in images:
            _fetch(client, testcontainers_config.hub_image_name_prefix + image)
    except DockerException as error:
        _say(f"no container engine, or not the image: {' '.join(str(error).split())}\n")
        return
    _say(READY)
    was_killed = sys.stdin.read() != DONE
    _remove(client, session)
    if was_killed:
        time.sleep(LATE_SECONDS)
        _remove(client, session)
    client.close()


def _fetch(client: Engine, image: str) -> None:
    try:
        client.images.get(image)
    except ImageNotFound:
        client.images.pull(image)


def _remove(client: Engine, session: str) -> None:
    """Remove the containers of a run with their volumes, whether they run or not."""
    label = f"{LABEL_SESSION_ID}={session}"
    for container in client.containers.list(all=True, filters={"label": label}, sparse=True):
        try:
            container.remove(force=True, v=True)
        except APIError as error:
            if error.status_code not in BEING_REMOVED:
                raise


def _say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
