"""A cluster of a test's own, whose services are patched before they start (see launcher)."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from tests.faults.agents import write_agents

ATTEMPTS_MAX = 3


@contextmanager
def patched(plan: Plan, folder: Path, *patches: str) -> Generator[LocalCluster]:
    """The cluster, made after `plan`, in `folder`. Blocks while it starts and stops."""
    write_agents(folder / "agents.json")
    env = {
        **plan.env,
        "HEADWATER_AGENTS_FILE": str(folder / "agents.json"),
        "HEADWATER_ATTEMPTS_MAX": str(ATTEMPTS_MAX),
        "FAULTS_PATCH": ",".join(filter(None, patches)),
    }
    own = replace(plan, data_dir=folder, launcher="tests.faults.launcher", env=env)
    with LocalCluster(own) as cluster:
        yield cluster
