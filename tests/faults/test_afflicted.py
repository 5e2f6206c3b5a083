"""Faults that strike from inside a service (see afflicted), which the whole system bears."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from tests.faults.afflicted import CRASHES_MAX
from tests.faults.arena import Arena, Options
from tests.faults.conftest import LEASE_SECONDS
from tests.faults.patched import patched

FROZEN_SECONDS = 2 * LEASE_SECONDS
LAG_SECONDS_MAX = 5.0
MACHINE_SECONDS = 1.5  # two cores, shared with whatever else runs
CRASHES = 2


def crash_files(cluster: LocalCluster) -> list[Path]:
    """One for each crash that has happened; a persister crashes while one is missing."""
    return [cluster.plan.data_dir / f"crash-{number}" for number in range(CRASHES_MAX)]


def restarts_of_persisters(cluster: LocalCluster) -> int:
    keepers = cluster.supervisor.keepers
    return sum(one.restarts for one in keepers if one.part.kind == "persister")


@pytest.fixture(scope="module")
def afflicted(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Generator[LocalCluster]:
    """Its workers are deaf when they lose a lease; its persisters crash once a test lets them."""
    folder = tmp_path_factory.mktemp("afflicted")
    for number in range(CRASHES_MAX):
        (folder / f"crash-{number}").touch()
    patches = {"orchestrator": "deaf_worker", "persister": "crash_after_commit"}
    with patched(plan, folder, patches) as cluster:
        yield cluster


@pytest.fixture
def own_arena(afflicted: LocalCluster, options: Options, tmp_path: Path) -> Arena:
    return Arena(afflicted, options, tmp_path)


async def test_row_02_persisters_die_between_commit_and_ack(own_arena: Arena) -> None:
    """What is archived is delivered once more."""
    files = crash_files(own_arena.cluster)[:CRASHES]
    async with own_arena.row("02 kill -9 between COMMIT and XACK") as row:
        await row.users.stream(4)
        before = restarts_of_persisters(own_arena.cluster)
        for file in files:
            file.unlink()
        await row.users.until(
            lambda: restarts_of_persisters(own_arena.cluster) == before + CRASHES, "the crashes"
        )
    assert row.logs.said("batch taken over"), "nothing was delivered twice"
    assert row.figures.attempts_max == 1
    assert row.figures.quiet_seconds < LAG_SECONDS_MAX + MACHINE_SECONDS


@pytest.mark.thorough
async def test_row_15_a_deaf_zombie_is_refused(own_arena: Arena) -> None:
    """It wakes up before its successor has said a word, and is not told that it has one."""
    async with own_arena.row("15 SIGSTOP and SIGCONT of a deaf orchestrator") as row:
        await row.users.stream(6, agent="reluctant")
        await row.faults.stop_cont("orchestrator-1", FROZEN_SECONDS)
    assert row.figures.attempts_max == 2
    assert row.logs.said("lease lost", by="orchestrator-1"), "nobody was a zombie"
