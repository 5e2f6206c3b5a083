"""A cluster of a test's own, whose services are patched before they start (see launcher)."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from tests.faults.agents import AGENTS, write_agents

ATTEMPTS_MAX = 3


@contextmanager
def patched(plan: Plan, folder: Path, patches: Mapping[str, str]) -> Generator[LocalCluster]:
    """The cluster, made after `plan`, in `folder`. Blocks while it starts and stops.

    `patches` of one service by its name, of all of a kind by the kind; several with commas.
    """
    # The model server counts `times` by the name of the model, over all clusters of the session.
    models = {
        name: f"{model},id={folder.name}" for name, model in AGENTS.items() if "times=" in model
    }
    write_agents(folder / "agents.json", {**AGENTS, **models})
    env = {
        **plan.env,
        "HEADWATER_AGENTS_FILE": str(folder / "agents.json"),
        "HEADWATER_ATTEMPTS_MAX": str(ATTEMPTS_MAX),
    }
    env_of = dict(plan.env_of)
    for name in plan.service_names:
        found = (patches.get(name.rpartition("-")[0]), patches.get(name))
        env_of[name] = {**env_of.get(name, {}), "FAULTS_PATCH": ",".join(filter(None, found))}
    own = replace(plan, data_dir=folder, launcher="tests.faults.launcher", env=env, env_of=env_of)
    with LocalCluster(own) as cluster:
        yield cluster
