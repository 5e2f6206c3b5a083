"""What the images weigh, and how long each service takes to be ready.

`python -m tests.compose.figures` starts everything at once on new volumes, and then each container
again while all others run.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from tests.compose.deployment import IMAGES, Container, Deployment, deployed, why_not

READY = {
    "api": '"event": "started"',
    "orchestrator": '"event": "started"',
    "persister": '"event": "started"',
    "valkey": "Ready to accept connections",
    "postgres": "database system is ready to accept connections",
    "model": "model smollm2",
    "proxy": "Loading success",
    "migrate": '"event": "migrated"',
    "keeper": '"event": "started"',
}
LINE_SECONDS_MAX = 120
POLL_SECONDS = 0.5
MIB = 1 << 20


def main() -> int:
    """Print both tables: the exit code."""
    if reason := why_not():
        sys.stderr.write(f"{reason}\n")
        return 1
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder) / "clone") as deployment:
        deployment.make("up")
        base = deployment.run("docker", "image", "inspect", "python:3.11-slim-bookworm")
        _say("base", "image", f"{json.loads(base)[0]['Size'] / MIB:.0f} MiB")
        for image in IMAGES:
            facts = json.loads(deployment.run("docker", "image", "inspect", f"{image}:test"))[0]
            _say(image, "image", f"{facts['Size'] / MIB:.0f} MiB")
        for container in _by_service(deployment):
            _say(container.service, "all", f"{start_seconds(deployment, container):.1f} s")
        for former in _by_service(deployment):
            deployment.run("docker", "restart", former.id)
            [container] = [one for one in deployment.containers() if one.id == former.id]
            _say(container.service, "alone", f"{start_seconds(deployment, container):.1f} s")
            deployment.until_well()
    return 0


def start_seconds(deployment: Deployment, container: Container) -> float:
    """From its start to the line that says it is ready; infinite if it does not say so."""
    began = container.facts["State"]["StartedAt"]
    deadline = time.monotonic() + LINE_SECONDS_MAX
    while not (line := _ready_line(deployment, container, began)):
        if time.monotonic() > deadline:
            return math.inf
        time.sleep(POLL_SECONDS)
    return _moment(line.split()[0]) - _moment(began)


def _by_service(deployment: Deployment) -> list[Container]:
    return sorted(deployment.containers(), key=lambda one: one.service)


def _ready_line(deployment: Deployment, container: Container, since: str) -> str:
    said = deployment.run(
        "bash", "-c", f"docker logs --timestamps --since {since} {container.id} 2>&1"
    )
    lines = [line for line in said.splitlines() if READY[container.service] in line]
    return lines[-1] if lines else ""


def _moment(text: str) -> float:
    """Seconds of the epoch; the engine tells nanoseconds, which Python does not read."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z", r"\1+00:00", text)).timestamp()


def _say(*words: str) -> None:
    sys.stdout.write("{:<18} {:<6} {:>10}\n".format(*words))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
