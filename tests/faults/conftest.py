"""One cluster for all rows: two of each service, a short lease, a scripted model."""

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
from tests.faults.depth import MARKS, left_out
from tests.faults.networked import Network, networked
from tests.faults.odd_cluster import OddCluster, odd_cluster
from tests.support.model_process import model_process

LEASE_SECONDS = 2
SHORT_OUTAGE_SECONDS, OUTAGE_SECONDS, LONG_OUTAGE_SECONDS = 3.0, 10.0, 30.0
STORM_SECONDS = 60.0
SEED_MAX = 1_000_000
ENV = {
    "HEADWATER_LEASE_SECONDS": str(LEASE_SECONDS),
    "HEADWATER_HEARTBEAT_SECONDS": "0.5",
    "HEADWATER_ATTEMPTS_MAX": "8",
}

SEED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--faults-seed", type=int, help="repeats what a run with this seed did")
    group.addoption("--faults-report", type=Path, help="append a JSON line for each row")
    group.addoption("--storm-seconds", type=float, help=f"instead of {STORM_SECONDS:g}")
    group.addoption("--thorough", action="store_true", help="all rows, outages of 10 s, not 3 s")
    group.addoption("--long", action="store_true", help="all there is, outages of 30 s")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    depth = {name: bool(config.getoption(f"--{name}", False)) for name in MARKS}
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.faults)
            if reason := left_out(item, **depth):
                item.add_marker(pytest.mark.skip(reason))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if SEED in config.stash:
        terminalreporter.write_line(f"faults: SEED={config.stash[SEED]} repeats what was drawn")


@pytest.fixture(scope="session")
def options(pytestconfig: pytest.Config) -> Options:
    """Without defaults where the options are unknown: pytest was told of a folder further up."""
    seed = pytestconfig.getoption("--faults-seed", None) or int(os.environ.get("SEED") or 0)
    long, thorough = (
        bool(pytestconfig.getoption(name, False)) for name in ("--long", "--thorough")
    )
    outage_seconds = OUTAGE_SECONDS if thorough else SHORT_OUTAGE_SECONDS
    pytestconfig.stash[SEED] = seed = seed or random.SystemRandom().randrange(1, SEED_MAX)
    return Options(
        seed=seed,
        report=pytestconfig.getoption("--faults-report", None),
        outage_seconds=LONG_OUTAGE_SECONDS if long else outage_seconds,
        storm_seconds=pytestconfig.getoption("--storm-seconds", None) or STORM_SECONDS,
        long=long,
    )


@pytest.fixture(scope="session")
def model_url() -> Generator[str]:
    with model_process() as url:
        yield url


@pytest.fixture(scope="session")
def plan(
    pytestconfig: pytest.Config, model_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Plan:
    """What the suite's cluster is made of; a test that wants another one begins from here."""
    folder = tmp_path_factory.mktemp("cluster")
    write_agents(folder / "agents.json")
    return Plan(
        data_dir=folder,
        llm_base_url=model_url,
        env={**ENV, "HEADWATER_AGENTS_FILE": str(folder / "agents.json")},
        redis_server=pytestconfig.getoption("--redis-server"),
        apis=2,
        orchestrators=2,
        persisters=2,
    )


@pytest.fixture(scope="session")
def cluster(plan: Plan) -> Generator[LocalCluster]:
    with LocalCluster(plan) as running:
        yield running


@pytest.fixture
def arena(cluster: LocalCluster, options: Options, tmp_path: Path) -> Arena:
    return Arena(cluster, options, tmp_path)


@pytest.fixture(scope="session")
def odd(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Generator[OddCluster]:
    """A second cluster, whose services can be made odd."""
    with odd_cluster(plan, tmp_path_factory.mktemp("odd")) as running:
        yield running


@pytest.fixture
def odd_arena(odd: OddCluster, options: Options, tmp_path: Path) -> Arena:
    return Arena(odd.running, options, tmp_path)


@pytest.fixture(scope="session")
def network(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Generator[Network]:
    """A third cluster, whose links can be cut, and whose Redis can run out of disk."""
    with networked(plan, tmp_path_factory.mktemp("networked")) as running:
        yield running


@pytest.fixture
def networked_arena(network: Network, options: Options, tmp_path: Path) -> Generator[Arena]:
    yield Arena(network.cluster, options, tmp_path)
    network.heal()
