"""Postgres is away, takes no writes, or refuses a transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from shared.keys import PartitionKeys
from shared.redis_client import connect
from tests.faults.arena import Arena, Row
from tests.faults.depth import thorough
from tests.faults.sick_postgres import configured, deadlock, full_disk, serialization_failure
from tests.faults.stores import PARTITIONS

PAUSE_SECONDS_MAX = 1.0  # of a stream that does not need Postgres; two cores, shared
CAUGHT_UP_SECONDS_MAX = 30.0
BETWEEN_ASKS_SECONDS = 0.5
REFUSING_SECONDS = 1.0
LISTS = ("/v1/threads", "/v1/threads/{}/messages", "/v1/jobs/{}")

LASTING: dict[str, Callable[[Row], AbstractAsyncContextManager[None]]] = {
    "read-only": lambda row: configured(row, "default_transaction_read_only", "on"),
    "disk full": full_disk,
}
PASSING: dict[str, tuple[Callable[[Row], Awaitable[None]], str]] = {
    "deadlock": (deadlock, "deadlock detected"),
    "serialization failure": (serialization_failure, "could not serialize access"),
}


async def test_row_07_postgres_is_away(arena: Arena) -> None:
    seconds = arena.options.outage_seconds
    async with arena.row(f"07 Postgres down {seconds:g} s") as row:
        jobs = await row.users.stream(4, agent="long")
        async with row.faults.down("postgres"):
            before = seen(row)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                await read_lists(row, jobs[0].thread_id, jobs[0].job_id)
                await asyncio.sleep(BETWEEN_ASKS_SECONDS)
            assert await unarchived(row) >= seen(row) - before, "something was trimmed"
        row.users.watch(await row.users.ask("is all well?", agent="quick"))
        await row.users.until(lambda: row.users.viewers[-1].is_done, "a new answer")
    assert row.figures.attempts_max == 1
    assert row.figures.connections_max == 1
    assert row.figures.longest_pause_seconds < PAUSE_SECONDS_MAX
    assert row.figures.quiet_seconds < CAUGHT_UP_SECONDS_MAX


def seen(row: Row) -> int:
    """How many events all viewers were given."""
    return sum(len(viewer.events) for viewer in row.users.viewers)


async def read_lists(row: Row, thread_id: str, job_id: str) -> None:
    """Reads are served from Redis, or told to come later: the oracle looks at the statuses."""
    for path, named in zip(LISTS, ("", thread_id, job_id), strict=True):
        reply = await row.users.send("GET", path.format(named))
        assert reply.status in (200, 503), (path, reply)


async def unarchived(row: Row) -> int:
    """How many entries Redis keeps for the persisters."""
    async with connect(row.cluster.redis_url) as redis:
        return sum([await redis.xlen(PartitionKeys(p).log) for p in range(PARTITIONS)])


@pytest.mark.thorough
@pytest.mark.parametrize("sickness", ["disk full", "read-only"])
async def test_row_18_postgres_takes_no_writes(sickness: str, arena: Arena) -> None:
    async with arena.row(f"18 Postgres: {sickness}") as row:
        await row.users.stream(4)
        async with LASTING[sickness](row):
            await row.users.until(lambda: bool(row.logs.said("batch waits")), "a refused batch")
            await asyncio.sleep(REFUSING_SECONDS)
    assert row.figures.attempts_max == 1
    assert row.figures.longest_pause_seconds < PAUSE_SECONDS_MAX
    assert not row.logs.said("poison event"), "an event was given up on"


@pytest.mark.parametrize("sickness", ["deadlock", thorough("serialization failure")])
async def test_row_18_postgres_refuses_a_transaction(sickness: str, arena: Arena) -> None:
    strike, text = PASSING[sickness]
    log = arena.cluster.plan.log_of("postgres")
    before = log.read_text().count(text)
    async with arena.row(f"18 Postgres: {sickness}") as row:
        await row.users.stream(4)
        await strike(row)
    assert log.read_text().count(text) > before, "it did not come to that"
    assert row.figures.attempts_max == 1
    assert row.figures.longest_pause_seconds < PAUSE_SECONDS_MAX
    assert not row.logs.said("poison event"), "an event was given up on"
