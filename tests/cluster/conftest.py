"""Clusters of services over a Redis Cluster, and over a primary that sentinels watch."""

from __future__ import annotations

import os
import random
from collections.abc import Generator
from pathlib import Path

import pytest

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from tests.faults.agents import write_agents
from tests.faults.arena import Arena, Options
from tests.support.model_process import model_process
from tests.support.redis_cluster import RedisCluster
from tests.support.sentinels import WatchedPrimary

LEASE_SECONDS = 2
SEED_MAX = 1_000_000
ENV = {
    "HEADWATER_LEASE_SECONDS": str(LEASE_SECONDS),
    "HEADWATER_HEARTBEAT_SECONDS": "0.5",
    "HEADWATER_ATTEMPTS_MAX": "8",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and "smoke" not in item.path.name:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def options() -> Options:
    seed = int(os.environ.get("SEED") or 0) or random.SystemRandom().randrange(1, SEED_MAX)
    return Options(seed=seed, report=None, outage_seconds=3.0, storm_seconds=0.0, long=False)


@pytest.fixture(scope="session")
def model_url() -> Generator[str]:
    with model_process() as url:
        yield url


@pytest.fixture(scope="session")
def binary(pytestconfig: pytest.Config) -> Path | None:
    """The server that was asked for."""
    return pytestconfig.getoption("--redis-server")


@pytest.fixture(scope="module")
def servers(
    binary: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Generator[RedisCluster]:
    """Three primaries, a replica of each."""
    with RedisCluster(tmp_path_factory.mktemp("redis"), binary=binary) as running:
        yield running


@pytest.fixture(scope="module")
def watched(
    binary: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Generator[WatchedPrimary]:
    """A primary, its replica, three sentinels."""
    with WatchedPrimary(tmp_path_factory.mktemp("redis"), binary) as running:
        yield running


def _services(redis_url: str, model_url: str, folder: Path) -> LocalCluster:
    write_agents(folder / "agents.json")
    return LocalCluster(
        Plan(
            data_dir=folder,
            redis_url=redis_url,
            llm_base_url=model_url,
            env={**ENV, "HEADWATER_AGENTS_FILE": str(folder / "agents.json")},
            apis=2,
            orchestrators=2,
            persisters=2,
        )
    )


@pytest.fixture(scope="module")
def cluster(
    servers: RedisCluster, model_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[LocalCluster]:
    """Two of each service, over the Redis Cluster."""
    with _services(servers.url, model_url, tmp_path_factory.mktemp("services")) as running:
        yield running


@pytest.fixture
def arena(cluster: LocalCluster, options: Options, tmp_path: Path) -> Arena:
    return Arena(cluster, options, tmp_path)


@pytest.fixture(scope="module")
def watched_cluster(
    watched: WatchedPrimary, model_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[LocalCluster]:
    """Two of each service, over the watched primary."""
    with _services(watched.url, model_url, tmp_path_factory.mktemp("services")) as running:
        yield running


@pytest.fixture
def watched_arena(watched_cluster: LocalCluster, options: Options, tmp_path: Path) -> Arena:
    return Arena(watched_cluster, options, tmp_path)
