"""The suite can fail: with one mechanism taken out of the services, the oracle says what is broken.

Each control strikes with a fault that the whole system bears (`--long` runs that too), and names
the invariants that must be found broken when the mechanism is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from tests.faults.arena import Arena, Options, Row, Violated
from tests.faults.conftest import LEASE_SECONDS
from tests.faults.lost_tail import lost_tail
from tests.faults.patched import patched

FROZEN_SECONDS = 2 * LEASE_SECONDS
LOST_SECONDS = 1.0


async def freeze(row: Row) -> None:
    """A worker wakes up behind its lease, before its successor has said a word."""
    await row.users.stream(6, agent="reluctant")
    await row.faults.stop_cont("orchestrator-1", FROZEN_SECONDS)


async def answer_at_length(row: Row) -> None:
    """Answers that take several leases."""
    await row.users.stream(4, agent="long")


async def answer(row: Row) -> None:
    """Nothing but load."""
    await row.users.stream(8, viewers=2)


async def cancel_what_is_over(row: Row) -> None:
    """A cancellation that comes too late, and once more."""
    jobs = [await row.users.ask(f"question {n}", agent="quick") for n in range(3)]
    viewers = [row.users.watch(job) for job in jobs]
    await row.users.until(lambda: all(viewer.is_done for viewer in viewers), "the answers")
    for job in jobs:
        await row.users.cancel(job)
        await row.users.cancel(job)


async def forget(row: Row) -> None:
    """Redis loses the end of running answers, which nobody has archived."""
    for name in ("persister-1", "persister-2"):
        await asyncio.to_thread(row.cluster.supervisor.hold, name)
    await row.users.stream(6, agent="long")
    async with lost_tail(row, seconds=LOST_SECONDS):
        await asyncio.sleep(LOST_SECONDS)
    for name in ("persister-1", "persister-2"):
        await asyncio.to_thread(row.cluster.supervisor.release, name)


async def leave_a_zombie_waiting(row: Row) -> None:
    """A frozen worker, whose model has fallen silent, wakes up; then its successor dies."""
    jobs = [await row.users.ask(f"question {n}", agent="silent-once") for n in range(4)]
    viewers = [row.users.watch(job) for job in jobs]
    await row.users.until(lambda: all(len(v.events) > 1 for v in viewers), "the first words")
    await row.faults.stop_cont("orchestrator-1", FROZEN_SECONDS)
    await asyncio.sleep(LEASE_SECONDS)
    row.faults.kill("orchestrator-2")


@dataclass(frozen=True)
class Control:
    """`breaks`: at least these invariants must be reported."""

    breaks: frozenset[int]
    strike: Callable[[Row], Awaitable[None]]
    fault: str = ""  # one that strikes from inside


CONTROLS = {
    "no_fence": Control(frozenset((1, 5)), freeze, "deaf_worker"),
    "no_heartbeat": Control(frozenset((4,)), answer_at_length),
    "no_owner_check": Control(frozenset((4,)), leave_a_zombie_waiting),
    "no_gap_check": Control(frozenset((1,)), forget),
    "no_reread": Control(frozenset((1,)), answer, "lossy_ear"),
    "no_trim_guard": Control(frozenset((8,)), answer),
    "no_idempotence": Control(frozenset((7,)), answer, "crash_after_commit"),
    "no_terminal_once": Control(frozenset((1,)), cancel_what_is_over),
}


async def run(cluster: LocalCluster, options: Options, folder: Path, name: str) -> set[int]:
    """The invariants that are broken."""
    try:
        async with Arena(cluster, options, folder).row(f"control {name}") as row:
            await CONTROLS[name].strike(row)
    except Violated as error:
        return {one.invariant for one in error.violations}
    return set()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", CONTROLS)
async def test_control(name: str, plan: Plan, options: Options, tmp_path: Path) -> None:
    with patched(plan, tmp_path, CONTROLS[name].fault, name) as cluster:
        broken = await run(cluster, options, tmp_path, name)
    assert broken >= CONTROLS[name].breaks


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", CONTROLS)
async def test_the_same_with_the_mechanism(
    name: str, plan: Plan, options: Options, tmp_path: Path
) -> None:
    with patched(plan, tmp_path, CONTROLS[name].fault) as cluster:
        assert await run(cluster, options, tmp_path, name) == set()
