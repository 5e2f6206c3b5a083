"""A primary that sentinels watch is killed, and fails over by command, while answers stream."""

from __future__ import annotations

import asyncio

from tests.cluster.failing_over import possible_loss
from tests.faults.arena import Arena
from tests.support.sentinels import WatchedPrimary

STREAMS = 6


async def test_a_watched_primary_is_killed(watched_arena: Arena, watched: WatchedPrimary) -> None:
    async with watched_arena.row("sentinels: kill -9 of the primary") as row:
        await row.users.stream(STREAMS, agent="steady-long")
        primary = watched.primary
        async with possible_loss(row, "kill -9 of the primary"):
            primary.end()
            await asyncio.to_thread(watched.taken_over, primary)
            row.users.watch(await row.users.ask("still there?", agent="quick"))
        primary.start()
        await asyncio.to_thread(watched.settled)


async def test_a_watched_primary_hands_over(watched_arena: Arena, watched: WatchedPrimary) -> None:
    async with watched_arena.row("sentinels: SENTINEL FAILOVER") as row:
        await row.users.stream(STREAMS, agent="long")
        primary = watched.primary
        async with possible_loss(row, "SENTINEL FAILOVER"):
            watched.fail_over()
            await asyncio.to_thread(watched.taken_over, primary)
            while not watched.is_deserted(primary):
                row.users.watch(await row.users.ask("still there?", agent="steady"))
        assert primary.is_primary, "sentinels have demoted it meanwhile"
        await asyncio.to_thread(watched.settled)
