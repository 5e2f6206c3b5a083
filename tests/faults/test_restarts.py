"""Rolling restarts, as at every deployment: one process after the other, while everybody works."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.faults.arena import Arena, Row
from tests.faults.history import Record

SERVICES = ("orchestrator", "persister", "api")
BETWEEN_ASKS_SECONDS = 1.0
CANCEL_EVERY = 5
PAUSE_SECONDS_MAX = 1.0
STORE_PAUSE_SECONDS_MAX = 5.0
MACHINE_SECONDS = 1.5  # two cores, shared with whatever else runs


@asynccontextmanager
async def busy(row: Row) -> AsyncGenerator[None]:
    """Questions and cancels all the time; one that nobody takes in the end breaks the block."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as users:
        users.create_task(_ask_until(over, row))
        try:
            yield
        finally:
            over.set()


async def _ask_until(over: asyncio.Event, row: Row) -> None:
    while not over.is_set():
        job = await row.users.ask("and now?", agent="slow")
        row.users.watch(job)
        await asyncio.sleep(BETWEEN_ASKS_SECONDS)
        if len(row.users.jobs) % CANCEL_EVERY == 0:
            await row.users.cancel(job)


def longest_acceptance_seconds(records: Sequence[Record]) -> float:
    """From the first time that a question was sent to the answer that stood."""
    times: dict[str, list[float]] = defaultdict(list)
    for one in records:
        if one["kind"] == "request" and one.get("key"):
            times[one["key"]] += [one["t"] - one["ms"] / 1000, one["t"]]
    return max(max(sent) - min(sent) for sent in times.values())


@pytest.mark.timeout(240)
@pytest.mark.thorough
async def test_row_20_services_are_restarted_one_by_one(arena: Arena) -> None:
    async with arena.row("20 rolling restart of all services") as row, busy(row):
        await row.users.stream(2)
        for kind in SERVICES:
            for number in (1, 2):
                row.faults.term(f"{kind}-{number}")
                await row.faults.ready(f"{kind}-{number}")
    assert row.figures.attempts_max == 1, "every answer ends within the drain"
    assert row.figures.longest_pause_seconds < PAUSE_SECONDS_MAX + MACHINE_SECONDS
    assert longest_acceptance_seconds(row.records) < PAUSE_SECONDS_MAX + MACHINE_SECONDS


@pytest.mark.timeout(240)
@pytest.mark.thorough
async def test_row_20_stores_are_restarted_one_by_one(arena: Arena) -> None:
    async with arena.row("20 restart of Redis and Postgres") as row, busy(row):
        await row.users.stream(2)
        for store in ("valkey", "postgres"):
            row.faults.term(store)
            await row.faults.ready(store)
    assert row.logs.said("feed connection lost"), "Redis was never away"
    assert row.figures.attempts_max <= 2
    assert row.figures.longest_pause_seconds < STORE_PAUSE_SECONDS_MAX + MACHINE_SECONDS


async def test_row_20_a_worker_in_a_hurry_hands_over(arena: Arena) -> None:
    """A second signal: what runs begins again elsewhere, at once and not after a lease."""
    async with arena.row("20 SIGTERM twice of an orchestrator") as row:
        await row.users.stream(6)
        row.faults.term("orchestrator-1")
        await row.users.until(
            lambda: bool(row.logs.said("jobs may end", by="orchestrator-1")), "the drain"
        )
        row.faults.term("orchestrator-1")
    handed_over = {one["job_id"] for one in row.logs.said("handed over", by="orchestrator-1")}
    assert handed_over
    assert handed_over == {
        viewer.job.job_id for viewer in row.users.viewers if viewer.events[-1]["attempt"] == 2
    }
    assert row.figures.attempts_max == 2
    assert row.figures.longest_pause_seconds < PAUSE_SECONDS_MAX + MACHINE_SECONDS
