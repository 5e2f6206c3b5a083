"""What replicas are reckoned by is on a gateway's page, and leads to no more than can be used."""

from __future__ import annotations

import re
from typing import Any, Final

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.api.app import assemble
from shared.agents import load_agents
from shared.archive import Archive
from shared.deployment import prepare
from shared.postgres import create_engine
from shared.redis_client import Redis
from shared.settings import Settings
from tests.infra.manifests import Manifest, named, of_kind, settings_of, workload

SERIES: Final = re.compile(r"(\bheadwater_\w+)\{(.*?)\}")
GROUPED: Final = re.compile(r"max by \((\w+)\) \((headwater_\w+)\{")
COMPONENTS: Final = ("api", "orchestrator", "persister")


def scaled(component: str) -> Manifest:
    return named("production", "ScaledObject", f"headwater-{component}")["spec"]


def queries(component: str) -> list[Manifest]:
    return [one["metadata"] for one in scaled(component)["triggers"] if one["type"] == "prometheus"]


@pytest.fixture
async def page(redis: Redis) -> dict[str, list[set[str]]]:
    """A gateway's metrics: of each series, the labels of its samples."""
    settings = Settings(auth_secret="s" * 32, partitions=2)  # pyright: ignore[reportCallIssue]
    await prepare(redis, settings.partitions)
    engine = create_engine("postgresql://nobody@127.0.0.1:1/nothing", application="test")
    gateway = assemble(settings, redis=redis, archive=Archive(engine), agents=load_agents(None))
    transport = httpx.ASGITransport(app=gateway.app)  # pyright: ignore[reportArgumentType]
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        said = (await client.get("/metrics")).text
    await engine.dispose()
    families = text_string_to_metric_families(said)
    return {f.name: [set(sample.labels) for sample in f.samples] for f in families}


async def test_each_series_that_is_asked_for_is_there(page: dict[str, Any]) -> None:
    for component in COMPONENTS:
        for query in queries(component):
            asked = SERIES.findall(query["query"])
            assert asked
            assert {series for series, _ in asked} <= page.keys()
            assert all(page[series] for series, _ in asked), "series without a sample"


async def test_what_every_gateway_says_alike_is_counted_once(page: dict[str, Any]) -> None:
    """A partition's figures are the same on each; those of a gateway are its own."""
    for component in COMPONENTS:
        for query in queries(component):
            grouped = {series: label for label, series in GROUPED.findall(query["query"])}
            for series, _ in SERIES.findall(query["query"]):
                expected = {grouped[series]} if series in grouped else set[str]()
                assert all(labels == expected for labels in page[series]), series


def test_each_deployment_is_scaled_and_has_no_fixed_number() -> None:
    for component in COMPONENTS:
        target = named("production", "Deployment", scaled(component)["scaleTargetRef"]["name"])
        assert target["metadata"]["name"] == f"headwater-{component}"
        assert "replicas" not in target["spec"]
    assert all(one["spec"]["replicas"] == 2 for one in of_kind("small", "Deployment"))


def test_no_answer_is_not_taken_for_no_load() -> None:
    for component in COMPONENTS:
        for query in queries(component):
            assert query["ignoreNullValues"] == "false"


def test_only_this_deployment_is_counted() -> None:
    for component in COMPONENTS:
        namespace = workload("production", component).manifest["metadata"]["namespace"]
        for query in queries(component):
            for _, labels in SERIES.findall(query["query"]):
                assert labels == f'namespace="{namespace}"'


def test_workers_are_added_before_they_are_full(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(workload("production", "orchestrator"), monkeypatch)
    (query,) = queries("orchestrator")
    assert int(query["threshold"]) < settings.jobs_per_worker


def test_gateways_are_added_before_they_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(workload("production", "api"), monkeypatch)
    (query,) = queries("api")
    assert int(query["threshold"]) < settings.sockets_per_gateway


def test_persisters_do_not_outnumber_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(workload("production", "persister"), monkeypatch)
    assert scaled("persister")["maxReplicaCount"] <= settings.partitions


def test_one_of_each_may_always_go() -> None:
    assert all(scaled(component)["minReplicaCount"] >= 2 for component in COMPONENTS)
