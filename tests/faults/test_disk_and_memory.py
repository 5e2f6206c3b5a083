"""Redis takes no more, because its memory or its disk is full; then there is room again."""

from __future__ import annotations

import asyncio
import time

import pytest

from shared.keys import PERSISTERS
from shared.redis_client import connect
from tests.faults.arena import Arena, Row
from tests.faults.conftest import LEASE_SECONDS
from tests.faults.full_redis import full_disk, full_memory
from tests.faults.stores import group_states
from tests.faults.test_redis_away import ask_in_vain

MACHINE_SECONDS = 1.5  # two cores, shared with whatever else runs
FULL_SECONDS = 1.5 * LEASE_SECONDS
SETTLED_SECONDS = 0.5
NOTICED_SECONDS_MAX = 5.0
GREEN_SECONDS_MAX = 5.0
POLL_SECONDS = 0.05


async def test_row_17_memory_is_full(arena: Arena) -> None:
    """Leases are kept meanwhile, and what is in the log is archived: that makes room."""
    async with arena.row("17 maxmemory reached") as row:
        await row.users.stream(4, agent="steady-long")
        async with full_memory(row):
            await asyncio.sleep(SETTLED_SECONDS)
            before = seen(row)
            await ask_in_vain(row, FULL_SECONDS)
            assert seen(row) == before, "somebody could still write"
            await drained(row)
    assert row.figures.attempts_max == 1
    assert row.figures.connections_max == 1


@pytest.mark.thorough
async def test_row_17_disk_is_full(networked_arena: Arena) -> None:
    async with networked_arena.row("17 AOF disk full") as row:
        await row.users.stream(4, agent="steady-long")
        async with full_disk(row):
            noticed = await until_ready_is(row, 503)
            await asyncio.sleep(SETTLED_SECONDS)
            before = seen(row)
            await ask_in_vain(row, SETTLED_SECONDS)
            assert seen(row) == before, "somebody could still write"
        green = await until_ready_is(row, 200)
    assert noticed < NOTICED_SECONDS_MAX + MACHINE_SECONDS
    assert green < GREEN_SECONDS_MAX + MACHINE_SECONDS
    assert row.figures.attempts_max <= 2
    assert row.figures.connections_max == 1


def seen(row: Row) -> int:
    """How many events all viewers were given."""
    return sum(len(viewer.events) for viewer in row.users.viewers)


async def drained(row: Row) -> None:
    """Wait until the persisters have archived what was in the log."""
    async with asyncio.timeout(NOTICED_SECONDS_MAX), connect(row.cluster.redis_url) as redis:
        while True:
            groups = [one for one in await group_states(redis) if one["group"] == PERSISTERS]
            if not any(one["pending"] or one["unread"] for one in groups):
                return
            await asyncio.sleep(POLL_SECONDS)


async def until_ready_is(row: Row, status: int) -> float:
    """How many seconds it took until every gateway said so of itself."""
    began = time.monotonic()
    async with asyncio.timeout(4 * NOTICED_SECONDS_MAX):
        for url in row.cluster.urls:
            while True:
                async with row.users.session.get(f"{url}/readyz") as response:
                    if response.status == status:
                        break
                await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - began
