"""A second cluster, for rows that need services as they should not be (see oddities).

Its model server is its own and may be killed, its agents meet every way a model can fail, and every
service has a wall clock that can be set. So has its Redis, where libfaketime is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from infra.local.cluster import LocalCluster
from infra.local.machine import free_port
from infra.local.plan import Plan
from infra.local.valkey import find_server
from tests.faults.agents import AGENTS, write_agents

ATTEMPTS_MAX = 3
SILENCE_SECONDS_MAX = 1.0
STOP_SECONDS_MAX = 10
LIBRARIES = (Path("/usr/lib"), Path("/usr/local/lib"))
FAKETIME = "*/faketime/libfaketimeMT.so.1"
ENV = {
    "HEADWATER_ATTEMPTS_MAX": str(ATTEMPTS_MAX),
    "HEADWATER_LLM_TIMEOUT_SECONDS": str(SILENCE_SECONDS_MAX),
    "HEADWATER_LLM_IDLE_SECONDS": str(SILENCE_SECONDS_MAX),
    "FAULTS_PATCH": "odd_agents,own_clock,impatient_gateway",
}
MODELS = {
    "deadly": "fake:tokens=5",
    "blocking": "fake:tokens=60,delay_ms=10,id=blocking",
    "wordy": "fake:tokens=5,id=wordy",
    "newer": "fake:tokens=60,delay_ms=10,id=newer",
    "silent": "fake:hang_before_first",
    "stalled": "fake:tokens=20,hang_after=5",
    "unauthorized": "fake:status=401",
    "limited": "fake:status=429,retry_after=1",
    "limited-for-long": "fake:status=429,retry_after=60",
    "broken": "fake:status=500",
    "cut": "fake:tokens=20,cut_after=5",
    "cut-once": "fake:tokens=20,cut_after=5,times=1",
    "half-json": "fake:tokens=20,half_json_after=5",
    "bad-utf8": "fake:tokens=20,bad_utf8_after=5",
    "long-line": "fake:long_line=10000000",
    "no-final": "fake:tokens=20,no_final",
    "no-finish": "fake:tokens=20,no_finish",
}


@dataclass
class ModelServer:
    """The scripted model server as a process that may be killed and started again."""

    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Returns once it listens."""
        command = (sys.executable, "-m", "tests.support.model_server", "--port", str(self.port))
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the model server did not start"

    def kill(self) -> None:
        """kill -9. Does nothing to one that is dead."""
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS_MAX)
        self._process.stdout.close()


@dataclass
class OddCluster:
    """`clocks` holds one file for each service, and one for valkey if its clock can be set."""

    running: LocalCluster
    model: ModelServer
    clocks: Path

    @property
    def valkey_has_a_clock(self) -> bool:
        return (self.clocks / "valkey").exists()


@contextmanager
def odd_cluster(plan: Plan, folder: Path) -> Generator[OddCluster]:
    """The cluster, made after `plan`, in `folder`."""
    clocks = folder / "clocks"
    clocks.mkdir()
    write_agents(folder / "agents.json", {**AGENTS, **MODELS})
    for name in plan.service_names:
        (clocks / name).write_text("0")
    model = ModelServer()
    model.start()
    own = replace(
        plan,
        data_dir=folder,
        llm_base_url=model.url,
        launcher="tests.faults.launcher",
        env={**plan.env, **ENV, "HEADWATER_AGENTS_FILE": str(folder / "agents.json")},
        env_of={
            "migrate": {"FAULTS_PATCH": ""},
            **{name: {"FAULTS_CLOCK": str(clocks / name)} for name in plan.service_names},
        },
        redis_server=_with_a_clock(plan.redis_server or find_server(), folder, clocks / "valkey"),
    )
    try:
        with LocalCluster(own) as running:
            yield OddCluster(running, model, clocks)
    finally:
        model.kill()


def _with_a_clock(server: Path, folder: Path, clock: Path) -> Path:
    """A command that runs the server under libfaketime; the server itself where there is none."""
    found = [path for place in LIBRARIES for path in place.glob(FAKETIME)]
    if not found:
        return server
    clock.write_text("+0")
    variables = {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    wrapper = folder / "server"
    settings = " ".join(f"{name}={json.dumps(value)}" for name, value in variables.items())
    wrapper.write_text(f'#!/bin/sh\n{settings} exec {json.dumps(str(server))} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper
