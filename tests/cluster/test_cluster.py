"""A Redis Cluster under conversations: over all partitions, while slots move, primaries fail over.

The oracle judges; the pauses that clients saw stand in the rows' reports.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Sequence

import pytest

from shared.ids import partition_of
from shared.keys import PartitionKeys
from tests.cluster.failing_over import possible_loss
from tests.faults.arena import Arena
from tests.faults.stores import PARTITIONS
from tests.faults.workload import Job
from tests.support.redis_cluster import NODE_TIMEOUT_MS, RedisCluster, Server
from tests.support.slot_moves import move_at_once, move_key_by_key, moves_at_once

STREAMS = 8
SILENT_SECONDS = 1.0  # in which a replica hears nothing, and its primary goes on
FROZEN_SECONDS = 3 * NODE_TIMEOUT_MS / 1000


def partition_of_most(jobs: Sequence[Job]) -> int:
    return Counter(partition_of(job.job_id) for job in jobs).most_common(1)[0][0]


def primary_of_most(servers: RedisCluster, jobs: Sequence[Job]) -> Server:
    """Who has the partition that most of them stream in."""
    return servers.primary_of(PartitionKeys(partition_of_most(jobs)).meta)


async def test_a_conversation_over_all_partitions(arena: Arena) -> None:
    async with arena.row("cluster: a conversation over all partitions") as row:
        reached: set[int] = set()
        while len(reached) < PARTITIONS:
            job = await row.users.ask(f"question {len(row.users.jobs)}", agent="quick")
            row.users.watch(job)
            reached.add(partition_of(job.job_id))
        streamed = await row.users.stream(4)
        await row.users.ask("and then?", thread_id=streamed[0].thread_id, agent="quick")
        await row.users.cancel(streamed[1])
        row.doom(streamed[1], "cancelled")


async def test_a_slot_moves_at_once(arena: Arena, servers: RedisCluster) -> None:
    if not moves_at_once(servers):
        pytest.skip("this server has no CLUSTER MIGRATESLOTS: Valkey 9 has")
    async with arena.row("cluster: a slot moves at once") as row:
        jobs = await row.users.stream(STREAMS)
        async with row.faults.lasting("a slot moves"):
            meta = PartitionKeys(partition_of_most(jobs)).meta
            await asyncio.to_thread(move_at_once, servers, meta)


async def test_a_slot_moves_key_by_key(arena: Arena, servers: RedisCluster) -> None:
    async with arena.row("cluster: a slot moves key by key") as row:
        jobs = await row.users.stream(STREAMS)
        waiting = await row.users.ask("next?", thread_id=jobs[0].thread_id, agent="quick")
        row.users.watch(waiting)
        async with row.faults.lasting("a slot moves"):
            meta = PartitionKeys(partition_of_most(jobs)).meta
            await asyncio.to_thread(move_key_by_key, servers, meta)


async def test_a_primary_hands_over(arena: Arena, servers: RedisCluster) -> None:
    async with arena.row("cluster: CLUSTER FAILOVER") as row:
        jobs = await row.users.stream(STREAMS)
        primary = primary_of_most(servers, jobs)
        for _ in range(2):  # and back
            replica = servers.replica_of(primary)
            async with row.faults.lasting("hand over"):
                await asyncio.to_thread(servers.hand_over, replica)
            primary = replica


async def test_a_primary_is_killed(arena: Arena, servers: RedisCluster) -> None:
    async with arena.row("cluster: kill -9 of a primary") as row:
        jobs = await row.users.stream(STREAMS, agent="steady-long")
        primary = primary_of_most(servers, jobs)
        replica = servers.replica_of(primary)
        async with possible_loss(row, "kill -9 of a primary"):
            primary.end()
            await asyncio.to_thread(servers.taken_over, replica)
            row.users.watch(await row.users.ask("still there?", agent="quick"))
        primary.start()
        await asyncio.to_thread(servers.settled)


async def test_a_primary_freezes_and_awakes(arena: Arena, servers: RedisCluster) -> None:
    async with arena.row("cluster: a primary freezes and awakes") as row:
        jobs = await row.users.stream(STREAMS, agent="steady-long")
        primary = primary_of_most(servers, jobs)
        replica = servers.replica_of(primary)
        async with possible_loss(row, "a frozen primary"):
            os.kill(primary.pid, signal.SIGSTOP)
            try:
                await asyncio.to_thread(servers.taken_over, replica)
                await asyncio.sleep(FROZEN_SECONDS)
            finally:
                os.kill(primary.pid, signal.SIGCONT)
            await asyncio.to_thread(servers.settled)


async def test_a_replica_takes_over_that_lacks_the_last_second(
    arena: Arena, servers: RedisCluster
) -> None:
    async with arena.row("cluster: the replica lacks the last second") as row:
        jobs = await row.users.stream(STREAMS, agent="steady-long")
        primary = primary_of_most(servers, jobs)
        replica = servers.replica_of(primary)
        async with possible_loss(row, "kill -9, and a replica that lacks a second"):
            servers.deafen(replica)
            deadline = asyncio.get_running_loop().time() + SILENT_SECONDS
            while asyncio.get_running_loop().time() < deadline:
                row.users.watch(await row.users.ask("heard?", agent="quick"))
            primary.end()
            await asyncio.to_thread(servers.taken_over, replica)
        servers.hear_again(replica)
        primary.start()
        await asyncio.to_thread(servers.settled)
