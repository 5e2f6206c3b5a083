"""All faults together, by seed."""

from __future__ import annotations

import random
from collections.abc import Generator
from itertools import islice

import pytest

from infra.local.plan import Plan
from tests.faults.arena import Arena, Options
from tests.faults.forecast import KINDS, questions, strikes
from tests.faults.storm import Storm
from tests.faults.storm_cluster import StormCluster, storm_cluster
from tests.faults.test_redis_lost import BEGIN_AGAIN
from tests.faults.weather import Weather


@pytest.fixture(scope="module")
def stormy(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Generator[StormCluster]:
    with storm_cluster(plan, tmp_path_factory.mktemp("storm")) as running:
        yield running


@pytest.mark.timeout(3600)
async def test_row_24_the_storm(
    stormy: StormCluster, options: Options, tmp_path_factory: pytest.TempPathFactory
) -> None:
    arena = Arena(stormy.running, options, tmp_path_factory.mktemp("history"))
    name = f"24 storm of {options.storm_seconds:g} s, seed {options.seed}"
    async with stormy.fronts() as fronts, arena.row(name) as row:
        urls = zip(fronts.values(), row.users.urls, strict=True)
        row.users.urls = [proxy.url(url) for proxy, url in urls]
        row.expect(codes=[BEGIN_AGAIN])
        storm = Storm(row, Weather(row, stormy, fronts), options.seed)
        try:
            await storm.rage(options.storm_seconds)
        finally:
            row.history.add("storm", faults=storm.counts, agents=storm.agents)
            print(f"storm, seed {options.seed}: {dict(storm.counts)}")  # noqa: T201


def test_a_seed_makes_a_storm() -> None:
    for forecast in (questions, strikes):
        drawn = [list(islice(forecast(random.Random(seed)), 100)) for seed in ("1", "1", "2")]
        assert drawn[0] == drawn[1] != drawn[2]


def test_every_kind_of_fault_strikes() -> None:
    assert {one.name for one in islice(strikes(random.Random("1")), len(KINDS))} == set(KINDS)
