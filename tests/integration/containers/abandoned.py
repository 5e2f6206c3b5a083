"""A test run that starts a server in a container, names the container, and then does nothing more.

It is a program of its own, to be ended in the middle: ``python -m …abandoned IMAGE FOLDER``.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from docker.models.containers import Container
from testcontainers.core.docker_client import DockerClient
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID

from tests.support.container_engine import engine
from tests.support.containers import redis_in
from tests.support.servers import running_valkey


def containers_of(session: str) -> list[Container]:
    """What the engine has of a run, and knows of it now."""
    client = DockerClient().client
    label = f"{LABEL_SESSION_ID}={session}"
    found = client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
    client.close()
    return found


if __name__ == "__main__":
    image, folder = sys.argv[1:]
    with engine(image), running_valkey(Path(folder), redis_in(image)):
        print(SESSION_ID, flush=True)  # noqa: T201 -- who started this waits for it
        signal.pause()
