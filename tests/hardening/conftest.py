"""A small cluster of the real services, which log all they can."""

from __future__ import annotations

import json
from collections.abc import Generator

import pytest

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from tests.support.model_process import model_process

AGENTS = {"quick": "fake:tokens=5", "echo": "fake:echo"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hardening")
    group.addoption("--examples", type=int, help="of each call of the document")
    group.addoption("--surface-seed", type=int, help="repeats what a run tried")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[LocalCluster]:
    folder = tmp_path_factory.mktemp("hardening")
    agents = folder / "agents.json"
    specs = [{"name": name, "model": model} for name, model in AGENTS.items()]
    agents.write_text(json.dumps({"agents": specs}))
    env = {
        "HEADWATER_AGENTS_FILE": str(agents),
        "HEADWATER_LOG_LEVEL": "DEBUG",
        "HEADWATER_RATE_LIMIT_PER_MINUTE": "0",  # what is tried a hundred times a second
    }
    with (
        model_process() as model_url,
        LocalCluster(Plan(data_dir=folder, llm_base_url=model_url, env=env)) as running,
    ):
        yield running
