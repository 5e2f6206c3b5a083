"""The suite can fail: with one mechanism taken out of the services, the oracle says what is broken.

Each control strikes with a fault that the whole system bears (`--long` runs that too), and names
the invariants that must be found broken when the mechanism is missing. Nothing but the mechanism
may stand in the fault's way: a strike waits for what it needs to have happened, and where another
mechanism would help out, the services' settings keep it from coming in time.

    orchestrator-1   takes what is new; believes in a lease of LONG_LEASE_SECONDS
    orchestrator-2   takes over what is idle for SHORT_LEASE_SECONDS, and nothing new (`heir`)

So the first has a successor while, by its own clock, its lease is good: as in the middle of a
roll-out that changes the lease. Its clock would stop it otherwise, and hide what Redis refuses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from tests.faults.afflicted import CRASHES_MAX
from tests.faults.arena import Arena, Options, Row, Violated
from tests.faults.lost_tail import lost_tail
from tests.faults.patched import patched
from tests.faults.workload import EVENTS_MID_STREAM, Viewer

SHORT_LEASE_SECONDS, LONG_LEASE_SECONDS = 1.0, 30.0
WORDS_BEFORE_SILENCE = 5  # of the agent `silent-once`
ALL_SECONDS = 60.0  # of a block: it never takes so long


def lease(seconds: float, *, beats: float, **more: float) -> dict[str, str]:
    """Settings of a service whose lease holds so long, and is renewed so often in that time."""
    settings = {"lease_seconds": seconds, "heartbeat_seconds": seconds / beats, **more}
    return {f"HEADWATER_{name.upper()}": f"{value:g}" for name, value in settings.items()}


async def answer(row: Row) -> None:
    """Nothing but load."""
    await row.users.stream(3)


async def talk_on(row: Row) -> None:
    """The first worker never renews, so it is superseded in mid-answer, and hears nothing of it
    but by what it appends. Its next event has the seq of its successor's `started`."""
    await row.users.stream(2, agent="hesitant")


def words(viewer: Viewer) -> int:
    """How many the viewer has read."""
    return sum(len(event.get("content", "").split()) for event in viewer.events)


async def take_back(row: Row) -> None:
    """A frozen worker, whose model has fallen silent, wakes up when its successor has just died.

    It must not renew the lease: it would hold the job for as long as its model says nothing, and
    then begin the next attempt itself. By its settings there is none.
    """
    viewer = row.users.watch(await row.users.ask("question", agent="silent-once"))
    await row.users.until(lambda: words(viewer) == WORDS_BEFORE_SILENCE, "the silence")
    async with row.faults.stopped("orchestrator-1"):
        await row.users.until(lambda: viewer.events[-1]["attempt"] == 2, "its successor")
        row.faults.kill("orchestrator-2")


async def forget(row: Row) -> None:
    """Redis loses the middle of running answers, which nobody has archived. The workers, whose
    leases hold until it is back, go on behind it."""
    async with row.faults.down("persister-1"):
        await row.users.stream(2, agent="steady-long")
        viewers = row.users.viewers
        async with lost_tail(row, seconds=ALL_SECONDS) as loss:
            enough = [len(viewer.events) + EVENTS_MID_STREAM for viewer in viewers]
            await row.users.until(
                lambda: all(len(v.events) >= n for v, n in zip(viewers, enough, strict=True)),
                "what will be lost",
            )
    assert loss.bytes > 0, "nothing was lost"


async def crash(row: Row) -> None:
    """What is archived is delivered once more."""
    for number in range(1, CRASHES_MAX):
        (row.cluster.plan.data_dir / f"crash-{number}").touch()
    await row.users.stream(2)
    persister = row.cluster.supervisor.keeper("persister-1")
    await row.users.until(lambda: persister.restarts > 0, "the crash")


async def cancel_what_is_over(row: Row) -> None:
    """A cancellation that comes too late, and once more."""
    jobs = [await row.users.ask(f"question {n}", agent="quick") for n in range(2)]
    viewers = [row.users.watch(job) for job in jobs]
    await row.users.until(lambda: all(viewer.is_done for viewer in viewers), "the answers")
    for job in jobs:
        await row.users.cancel(job)
        await row.users.cancel(job)


@dataclass(frozen=True)
class Control:
    """`breaks`: at least these invariants must be reported. `of`: whose mechanism is removed.

    `afflicted` and `settings` are of services by their name, or of all of a kind.
    """

    breaks: frozenset[int]
    strike: Callable[[Row], Awaitable[None]]
    of: str
    afflicted: Mapping[str, str] = field(default_factory=dict[str, str])
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    orchestrators: int = 1


HEIR = lease(SHORT_LEASE_SECONDS, beats=3, attempts_max=8)
CONTROLS = {
    "no_fence": Control(
        frozenset((2, 5)),
        talk_on,
        "orchestrator",
        {"orchestrator-2": "heir"},
        {"orchestrator-1": lease(LONG_LEASE_SECONDS, beats=3), "orchestrator-2": HEIR},
        orchestrators=2,
    ),
    "no_owner_check": Control(
        frozenset((4,)),
        take_back,
        "orchestrator",
        {"orchestrator-2": "heir"},
        {
            "orchestrator-1": lease(
                LONG_LEASE_SECONDS, beats=100, attempts_max=2, llm_idle_seconds=2.5
            ),
            "orchestrator-2": HEIR,
        },
        orchestrators=2,
    ),
    "no_heartbeat": Control(
        frozenset((4,)),
        answer,
        "orchestrator",
        settings={"orchestrator": lease(SHORT_LEASE_SECONDS, beats=3)},
    ),
    "no_gap_check": Control(
        frozenset((1,)),
        forget,
        "orchestrator",
        settings={"orchestrator": lease(LONG_LEASE_SECONDS, beats=30)},
    ),
    "no_reread": Control(frozenset((1,)), answer, "api", {"api-1": "lossy_ear"}),
    "no_trim_guard": Control(frozenset((8,)), answer, "persister", {"persister-1": "slow_archive"}),
    "no_idempotence": Control(
        frozenset((7,)),
        crash,
        "persister",
        {"persister-1": "crash_after_commit"},
        {"persister": lease(SHORT_LEASE_SECONDS, beats=3)},
    ),
    "no_terminal_once": Control(frozenset((1,)), cancel_what_is_over, "api"),
}


def small(plan: Plan, control: Control) -> Plan:
    """As few services as the control needs: starting them is most of its time."""
    return replace(
        plan, apis=1, persisters=1, orchestrators=control.orchestrators, env_of=control.settings
    )


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
    control = CONTROLS[name]
    patches = {**control.afflicted, control.of: name}
    with patched(small(plan, control), tmp_path, patches) as cluster:
        broken = await run(cluster, options, tmp_path, name)
    assert broken >= control.breaks


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", CONTROLS)
async def test_the_same_with_the_mechanism(
    name: str, plan: Plan, options: Options, tmp_path: Path
) -> None:
    control = CONTROLS[name]
    with patched(small(plan, control), tmp_path, control.afflicted) as cluster:
        assert await run(cluster, options, tmp_path, name) == set()
