"""A service ends or stands still while answers stream through it."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import pytest

from tests.faults.arena import Arena, Row
from tests.faults.batches import kill_mid_batch, stopped_mid_batch
from tests.faults.conftest import LEASE_SECONDS

ORCHESTRATORS = ("orchestrator-1", "orchestrator-2")
PERSISTERS = ("persister-1", "persister-2")
GATEWAYS = ("api-1", "api-2")
TAKE_OVER_SECONDS_MAX = LEASE_SECONDS + 1.0
RECONNECT_SECONDS_MAX = 1.0
LAG_SECONDS_MAX = 5.0
MACHINE_SECONDS = 1.5  # two cores, shared with whatever else runs
FROZEN_SECONDS = 2 * LEASE_SECONDS
TAKEN_OVER_SECONDS = 1.5  # who wakes up finds what lies idle
OUTAGE_SHARE = 0.3  # nothing but the archive is missing: a shorter one shows as much


async def test_row_01_kill_9_of_each_orchestrator(arena: Arena) -> None:
    async with arena.row("01 kill -9 of each orchestrator alone") as row:
        for name in ORCHESTRATORS:
            before = len(row.users.viewers)
            await row.users.stream(6)
            row.faults.kill(name)
            await row.users.finished()
            assert attempts_of(row, before) == 2, f"{name} had nothing to do"
            await row.faults.ready(name)
    assert row.figures.attempts_max == 2
    assert row.figures.longest_pause_seconds < TAKE_OVER_SECONDS_MAX + MACHINE_SECONDS


@pytest.mark.thorough
async def test_row_01_kill_9_of_both_orchestrators(arena: Arena) -> None:
    async with arena.row("01 kill -9 of both orchestrators at once") as row:
        await row.users.stream(4)
        away = await all_end(row, ORCHESTRATORS)
    assert row.figures.attempts_max == 2
    bound = max(TAKE_OVER_SECONDS_MAX, away + 1.0)
    assert row.figures.longest_pause_seconds < bound + MACHINE_SECONDS


@pytest.mark.thorough
async def test_row_01_sigterm_of_both_orchestrators(arena: Arena) -> None:
    """What runs is brought to its end; what is asked meanwhile waits for the successors."""
    async with arena.row("01 SIGTERM of both orchestrators at once") as row:
        await row.users.stream(4)
        for name in ORCHESTRATORS:
            row.faults.term(name)
        row.users.watch(await row.users.ask("anybody there?"))
    assert row.figures.attempts_max == 1
    assert row.figures.longest_pause_seconds < MACHINE_SECONDS


async def test_row_02_kill_9_of_a_persister_mid_batch(arena: Arena) -> None:
    async with arena.row("02 kill -9 of each persister mid-batch") as row:
        for name in PERSISTERS:
            await row.users.stream(4)
            await kill_mid_batch(row, name)
            await row.faults.ready(name)
    assert row.logs.said("batch taken over")
    nobody_noticed(row)


@pytest.mark.thorough
async def test_row_02_persisters_leave_freeze_and_are_away(arena: Arena) -> None:
    seconds = arena.options.outage_seconds * OUTAGE_SHARE
    async with arena.row(f"02 SIGTERM, SIGSTOP, both persisters down {seconds:g} s") as row:
        await row.users.stream(4)
        row.faults.term("persister-1")
        await row.faults.ready("persister-1")
        await row.users.stream(4, agent="steady-long")
        async with stopped_mid_batch(row, "persister-2"):
            await asyncio.sleep(FROZEN_SECONDS)
        await row.users.stream(4)
        async with row.faults.down("persister-1"), row.faults.down("persister-2"):
            await asyncio.sleep(seconds)
    assert row.logs.said("batch taken over", by="persister-1")
    nobody_noticed(row)


@pytest.mark.thorough
async def test_row_03_gateways_leave_and_freeze(arena: Arena) -> None:
    async with arena.row("03 SIGTERM of a gateway, SIGSTOP of the other") as row:
        await row.users.stream(3, viewers=4)
        row.faults.term("api-1")
        await row.faults.ready("api-1")
        await row.users.stream(3, agent="steady-long", viewers=4)
        freezing = asyncio.create_task(row.faults.stop_cont("api-2", FROZEN_SECONDS))
        leaving = asyncio.create_task(leave_mid_question(row))
        asked = await asyncio.gather(*(row.users.ask("and now?") for _ in range(2)))
        await asyncio.gather(freezing, leaving)
        for job in asked:
            row.users.watch(job)
    cuts = [one for one in row.records if one["kind"] == "cut" and one["why"] != "done"]
    assert {one["why"] for one in cuts} >= {"reconnect"}
    assert row.figures.attempts_max == 1
    bound = FROZEN_SECONDS + RECONNECT_SECONDS_MAX + MACHINE_SECONDS
    assert LEASE_SECONDS < row.figures.longest_pause_seconds < bound, "nobody was at api-2"


@pytest.mark.thorough
async def test_row_03_kill_9_of_both_gateways(arena: Arena) -> None:
    async with arena.row("03 kill -9 of both gateways") as row:
        await row.users.stream(3, viewers=4)
        away = await all_end(row, GATEWAYS)
    assert row.figures.connections_max > 1
    assert row.figures.attempts_max == 1
    bound = away + RECONNECT_SECONDS_MAX + MACHINE_SECONDS
    assert row.figures.longest_pause_seconds < bound


@pytest.mark.thorough
async def test_row_15_a_frozen_orchestrator_wakes_up_as_a_zombie(arena: Arena) -> None:
    async with arena.row("15 SIGSTOP and SIGCONT of an orchestrator") as row:
        await row.users.stream(6, agent="long")
        await row.faults.stop_cont("orchestrator-1", FROZEN_SECONDS)
    assert row.figures.attempts_max == 2
    assert row.logs.said("lease lost", by="orchestrator-1"), "nobody was a zombie"


@pytest.mark.thorough
async def test_row_15_and_01_both_orchestrators_freeze(arena: Arena) -> None:
    """The second wakes up first, and takes over what the first still believes to be its own."""
    async with arena.row("15 and 01 SIGSTOP of both orchestrators") as row:
        await row.users.stream(6, agent="long")
        async with row.faults.stopped("orchestrator-1"):
            await row.faults.stop_cont("orchestrator-2", FROZEN_SECONDS)
            await row.users.until(
                lambda: all(one.is_done or one.attempt == 2 for one in row.users.viewers),
                "the successors",
            )
    assert row.figures.attempts_max == 2
    assert row.logs.said("lease lost", by="orchestrator-1"), "nobody was a zombie"
    assert row.figures.longest_pause_seconds < FROZEN_SECONDS + TAKEN_OVER_SECONDS + MACHINE_SECONDS


async def leave_mid_question(row: Row) -> None:
    """A client gives up on the second gateway before it has sent all of its question."""
    head = [
        "POST /v1/jobs HTTP/1.1",
        "Host: gateway",
        f"Authorization: Bearer {row.cluster.token(row.users.user)}",
        "Content-Type: application/json",
        "Content-Length: 100",
    ]
    _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(row.cluster.urls[1]).port)
    writer.write("\r\n".join([*head, "", '{"query": ']).encode())
    writer.close()
    await writer.wait_closed()


def attempts_of(row: Row, first: int) -> int:
    """The most attempts that any viewer from that one on has seen."""
    viewers = row.users.viewers[first:]
    return max(event["attempt"] for viewer in viewers for event in viewer.events)


async def all_end(row: Row, names: tuple[str, ...]) -> float:
    """kill -9 of all at once; how many seconds it took until they were back."""
    began = time.monotonic()
    for name in names:
        row.faults.kill(name)
    await row.faults.ready(*names)
    return time.monotonic() - began


def nobody_noticed(row: Row) -> None:
    """Persisters are no part of a stream's way, and catch up soon."""
    assert row.figures.attempts_max == 1
    assert row.figures.connections_max == 1
    assert row.figures.longest_pause_seconds < MACHINE_SECONDS
    assert row.figures.quiet_seconds < LAG_SECONDS_MAX + MACHINE_SECONDS
