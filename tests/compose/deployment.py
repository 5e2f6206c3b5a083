"""compose.yaml from a clean clone, in an engine: brought up, talked to, killed and taken down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.machine import free_port

ROOT = Path(__file__).parents[2]
BUILD_SECONDS_MAX = 1500
COMMAND_SECONDS_MAX = 300
POLL_SECONDS = 0.5
IMAGES = ("headwater", "headwater-model", "headwater-proxy")


def why_not() -> str | None:
    """What keeps an engine from being used here; None when there is one."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "no engine answers `docker info`"
    return None if compose_command() else "Docker has no Compose"


def compose_command() -> list[str]:
    """How Compose is called on this machine; empty when it is not there."""
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            subprocess.run([*command, "version"], capture_output=True, check=True)
        except (subprocess.CalledProcessError, FileNotFoundError):
            continue
        return command
    return []


@dataclass(frozen=True)
class Container:
    """One container as the engine sees it now."""

    id: str
    service: str
    pid: int
    state: str  # healthy, starting, unhealthy; running, exited for one without a health
    facts: Mapping[str, Any]


class Deployment:
    """A deployment of its own name, port and networks."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.project = f"headwater-test-{self.port}"
        self.env = {name: value for name, value in os.environ.items() if "HEADWATER" not in name}
        self.env |= {
            "COMPOSE_PROJECT_NAME": self.project,
            "HEADWATER_PORT": str(self.port),
            "HEADWATER_PROXY_NETWORK": f"10.{self.port % 199 + 50}.{self.port % 251}.0/28",
            "HEADWATER_IMAGE": "headwater:test",
            "HEADWATER_MODEL_IMAGE": "headwater-model:test",
            "HEADWATER_PROXY_IMAGE": "headwater-proxy:test",
            "HEADWATER_AGENTS_FILE": "./tests/compose/agents.json",
            # Each request's address leaves a mark in Redis.
            "HEADWATER_RATE_LIMIT_PER_ADDRESS": "1000000",
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def secret(self, name: str) -> str:
        """A value of the deployment's .env."""
        lines = (self.folder / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)[name]

    def run(self, *command: str, seconds_max: float = COMMAND_SECONDS_MAX) -> str:
        """What a command in the clone says; fails with all of it."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True,
            timeout=seconds_max, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def compose(self, *command: str, seconds_max: float = COMMAND_SECONDS_MAX) -> str:
        return self.run(*compose_command(), *command, seconds_max=seconds_max)

    def make(self, *command: str) -> str:
        return self.run("make", "ENGINE=compose", *command, seconds_max=BUILD_SECONDS_MAX)

    def token(self, user: str) -> str:
        return self.make("token", f"SUB={user}").strip()

    def containers(self) -> list[Container]:
        """Those there are, whether they run or have ended."""
        label = f"label=com.docker.compose.project={self.project}"
        ids = self.run("docker", "ps", "--all", "--quiet", "--filter", label).split()
        facts = json.loads(self.run("docker", "inspect", *ids)) if ids else []
        return [_container(one) for one in facts]

    def until_well(self, *services: str) -> None:
        """Wait until all containers, or those of some services, are healthy."""
        deadline = time.monotonic() + COMMAND_SECONDS_MAX
        while True:
            chosen = [one for one in self.containers() if not services or one.service in services]
            ill = [one for one in chosen if one.state != "healthy" and one.service != "migrate"]
            if not ill:
                return
            assert time.monotonic() < deadline, [(one.service, one.state) for one in ill]
            time.sleep(POLL_SECONDS)

    def query(self, statement: str) -> list[str]:
        """The lines Postgres answers, asked in its own container."""
        return self.compose(
            "exec", "-T", "-e", f"PGPASSWORD={self.secret('POSTGRES_ADMIN_PASSWORD')}", "postgres",
            "psql", "-h", "127.0.0.1", "-U", "postgres", "-d", "headwater", "-Atc", statement,
        ).splitlines()  # fmt: skip

    def ask_redis(self, *words: str) -> list[str]:
        """The lines Valkey answers its administrator."""
        secret = self.secret("REDIS_ADMIN_PASSWORD")
        who = ("valkey-cli", "--no-auth-warning", "--user", "admin", "--pass", secret)
        return self.compose("exec", "-T", "valkey", *who, *words).splitlines()

    def use_scripted_model(self) -> None:
        """Answer from the scripted model server from now on."""
        self.env["COMPOSE_FILE"] = "compose.yaml:tests/compose/scripted.yaml"
        self.env["HEADWATER_LLM_BASE_URL"] = "http://scripted:8080/v1"
        self.compose("up", "-d")
        self.until_well()


@contextmanager
def deployed(folder: Path) -> Generator[Deployment]:
    """A clean clone, of which nothing is running yet. In the end only its images are left, from
    which the next one is built sooner."""
    subprocess.run(
        ["git", "clone", "--quiet", "--depth", "1", ROOT.as_uri(), str(folder)], check=True
    )
    deployment = Deployment(folder)
    try:
        yield deployment
    finally:
        if (folder / ".env").exists():
            deployment.compose("down", "--volumes", "--remove-orphans")


def _container(facts: dict[str, Any]) -> Container:
    state = facts["State"]
    return Container(
        id=facts["Id"],
        service=facts["Config"]["Labels"]["com.docker.compose.service"],
        pid=state["Pid"],
        state=state["Health"]["Status"] if "Health" in state else state["Status"],
        facts=facts,
    )
