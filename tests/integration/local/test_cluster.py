"""The cluster as a library: replicas, their settings, and what is started again."""

import os
import urllib.request
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import jwt
import pytest

from infra.local.cluster import LocalCluster
from infra.local.errors import ClusterBusyError
from infra.local.part import PartState
from infra.local.plan import Plan, parts_for
from infra.local.state import Identity
from tests.integration.local.command_line import (
    NO_MODEL,
    NO_POSTGRES,
    STANDIN,
    processes_that_name,
)
from tests.integration.local.waiting import until


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Plan, None, None]:
    monkeypatch.chdir(STANDIN)
    yield Plan(data_dir=tmp_path, database_url=NO_POSTGRES, llm_base_url=NO_MODEL)
    assert processes_that_name(tmp_path / "redis") == []


def test_replicas_have_names_ports_and_settings_of_their_own(plan: Plan) -> None:
    several = replace(
        plan,
        apis=2,
        orchestrators=2,
        env={"STANDIN_WORD": "everywhere"},
        env_of={"api": {"STANDIN_WORD": "gateway"}, "orchestrator-2": {"STANDIN_WORD": "second"}},
    )
    with LocalCluster(several) as cluster:
        assert len(set(cluster.urls)) == 2
        for url in cluster.urls:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as page:
                assert page.read().decode() == cluster.redis_url
    said = {
        name: several.log_of(name).read_text().split()[2]
        for name in ("persister-1", "orchestrator-1", "orchestrator-2", "api-1", "api-2")
    }
    assert said == {
        "persister-1": "everywhere",
        "orchestrator-1": "everywhere",
        "orchestrator-2": "second",
        "api-1": "gateway",
        "api-2": "gateway",
    }


def test_a_launcher_runs_every_service_and_the_migration(plan: Plan) -> None:
    identity = Identity(ports=dict.fromkeys(plan.own_ports, 1))
    parts = parts_for(replace(plan, launcher="tests.launch"), identity)
    commands = {part.name: part.command[1:] for part in parts if "-m" in part.command}
    assert commands == {
        "migrate": ("-m", "tests.launch", "services.persister.migrate"),
        "persister-1": ("-m", "tests.launch", "services.persister"),
        "orchestrator-1": ("-m", "tests.launch", "services.orchestrator"),
        "api-1": ("-m", "tests.launch", "services.api"),
    }


def test_a_killed_service_is_started_again_and_ready_again(plan: Plan) -> None:
    with LocalCluster(plan) as cluster:
        before = cluster.pid("orchestrator-1")
        keeper = cluster.supervisor.keeper("orchestrator-1")
        cluster.kill("orchestrator-1")
        until(lambda: keeper.restarts == 1 and keeper.state is PartState.READY)
        assert cluster.pid("orchestrator-1") != before


def test_its_tokens_are_signed_with_its_secret(plan: Plan) -> None:
    secret = "a secret that is long enough for HS256"
    with LocalCluster(replace(plan, auth_secret=secret)) as cluster:
        assert cluster.secret == secret
        assert jwt.decode(cluster.token("carol"), secret, algorithms=["HS256"])["sub"] == "carol"


def test_a_folder_that_is_in_use_is_refused_and_the_one_that_uses_it_lives_on(plan: Plan) -> None:
    with LocalCluster(plan) as cluster:
        with pytest.raises(ClusterBusyError):
            LocalCluster(plan).start()
        os.kill(cluster.pid("valkey"), 0)
