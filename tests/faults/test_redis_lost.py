"""Redis comes back with less than it has acknowledged."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from shared.keys import ORCHESTRATORS, PERSISTERS, PartitionKeys
from shared.redis_client import Redis, connect
from tests.faults.arena import Arena, Row
from tests.faults.conftest import LEASE_SECONDS
from tests.faults.depth import thorough
from tests.faults.lost_tail import forgetting, lost_tail
from tests.faults.stores import PARTITIONS

LOST_SECONDS = 1.0
BETWEEN_ASKS_SECONDS = 0.2
TAKEN_UP_SECONDS_MAX = LEASE_SECONDS + 2.0  # what is archived, by a look of a persister
BEGIN_AGAIN = "cursor_ahead"  # what a viewer is told whose cursor was lost
PERSISTERS_OF_CLUSTER = ("persister-1", "persister-2")


@pytest.mark.parametrize("archive", ["behind", thorough("at hand")])
async def test_row_06_redis_loses_its_last_second(archive: str, arena: Arena) -> None:
    async with arena.row(f"06 Redis loses its last second, the archive is {archive}") as row:
        expect_loss(row)
        running = await row.users.stream(4, agent="steady-long")
        async with AsyncExitStack() as away, lost_tail(row, seconds=LOST_SECONDS) as loss:
            if archive == "behind":
                for name in PERSISTERS_OF_CLUSTER:
                    await away.enter_async_context(row.faults.down(name))
            await keep_asking(row, running[0].thread_id)
        assert loss.bytes > 0, "nothing was lost"


def expect_loss(row: Row) -> None:
    """A viewer's cursor may be behind the end of what is left."""
    row.expect(codes=[BEGIN_AGAIN])


async def keep_asking(row: Row, thread_id: str) -> None:
    """Short answers, and questions that wait behind a long one, for longer than what is lost."""
    for number in range(round(1.2 * LOST_SECONDS / BETWEEN_ASKS_SECONDS)):
        thread = {"thread_id": thread_id} if number % 2 else {}
        row.users.watch(await row.users.ask(f"brief {number}", agent="quick", **thread))
        await asyncio.sleep(BETWEEN_ASKS_SECONDS)


@pytest.mark.thorough
async def test_row_22_redis_is_emptied(arena: Arena) -> None:
    async with arena.row("22 FLUSHALL") as row, connect(row.cluster.redis_url) as redis:
        before = restarts(row)
        running = await row.users.stream(4, agent="steady-long")
        for number in range(2):
            query = f"waiting {number}"
            row.users.watch(await row.users.ask(query, thread_id=running[0].thread_id))
        expect_loss(row)
        async with forgetting(row):
            await redis.flushall()
        row.users.watch(await row.users.ask("what is new?", thread_id=running[1].thread_id))
        await row.users.finished()
        assert restarts(row) == before, "a process has ended by itself"
    assert row.figures.longest_pause_seconds < TAKEN_UP_SECONDS_MAX


@pytest.mark.parametrize(
    "strike", ["groups destroyed", thorough("commands deleted"), thorough("logs deleted")]
)
async def test_row_22_streams_and_groups_vanish(strike: str, arena: Arena) -> None:
    async with arena.row(f"22 {strike}") as row, connect(row.cluster.redis_url) as redis:
        if strike == "logs deleted":
            # What was only there stays in its thread's stream, whence nobody archives it.
            row.expect(waived=[1, 6, 8])
        before = restarts(row)
        await row.users.stream(4)
        for keys in map(PartitionKeys, range(PARTITIONS)):
            await STRIKES[strike](redis, keys)
        row.users.watch(await row.users.ask("and now?", agent="quick"))
        await row.users.finished()
        assert restarts(row) == before, "a process has ended by itself"


async def destroy_groups(redis: Redis, keys: PartitionKeys) -> None:
    await redis.xgroup_destroy(keys.commands, ORCHESTRATORS)
    await redis.xgroup_destroy(keys.log, PERSISTERS)


async def delete_commands(redis: Redis, keys: PartitionKeys) -> None:
    await redis.delete(keys.commands)


async def delete_log(redis: Redis, keys: PartitionKeys) -> None:
    await redis.delete(keys.log)


STRIKES = {
    "groups destroyed": destroy_groups,
    "commands deleted": delete_commands,
    "logs deleted": delete_log,
}


def restarts(row: Row) -> dict[str, int]:
    """How often each part was started again."""
    return {one.part.name: one.restarts for one in row.cluster.supervisor.keepers}
