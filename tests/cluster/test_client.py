"""The client of a cluster, where another would go on as if nothing had happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from shared.cluster_channels import channels_of
from shared.cluster_nodes import MAP_SECONDS
from shared.continuity import Continuity
from shared.errors import LogUnavailable
from shared.ids import new_thread_id, partition_of_thread
from shared.keys import PartitionKeys
from shared.redis_client import HASTY, ClusterRedis, Redis, connect
from shared.redis_scripts import Call, Script, run_many
from tests.support.log_server import LogServer, token
from tests.support.redis_cluster import RedisCluster, Server
from tests.support.slot_moves import half_moved, move_key_by_key

PARTITIONS = 8
META = PartitionKeys(0).meta
SECONDS_MAX = 20.0


@pytest.fixture
async def redis(servers: RedisCluster) -> AsyncGenerator[ClusterRedis]:
    async with connect(servers.url) as client:
        assert isinstance(client, ClusterRedis)
        await client.execute_command("SCRIPT FLUSH")
        yield client


@pytest.fixture
async def other(servers: RedisCluster) -> AsyncGenerator[Redis]:
    """Another process."""
    async with connect(servers.url) as client:
        yield client


@pytest.fixture
async def server(redis: ClusterRedis) -> LogServer:
    server = LogServer(redis, PARTITIONS)
    await server.prepare()
    return server


async def in_partition(server: LogServer, partition: int) -> str:
    while True:
        thread_id = await server.thread()
        if server.keys(thread_id).partition == partition:
            return thread_id


def hand_over(servers: RedisCluster) -> Server:
    """Fail over the primary of partition 0; who has it now."""
    replica = servers.replica_of(servers.primary_of(META))
    servers.hand_over(replica)
    assert servers.primary_of(META) is replica
    return replica


async def test_after_a_failover_nothing_is_written_before_the_archive_was_asked(
    server: LogServer, servers: RedisCluster
) -> None:
    thread_id = await in_partition(server, 0)
    await asyncio.to_thread(hand_over, servers)
    with pytest.raises(LogUnavailable, match="UNVERIFIED"):
        await server.posted(thread_id)
    assert 0 in await Continuity(server.redis, PARTITIONS).closed()


async def test_nor_by_who_has_slept_through_a_failover_and_its_reversal(
    server: LogServer, servers: RedisCluster, other: Redis
) -> None:
    """Its connections are those of before, to the very server it knew. What it knows is older than
    MAP_SECONDS: so it is after an election; one that was ordered may be quicker, and loses nothing.
    """
    thread_id = await in_partition(server, 0)
    before = servers.primary_of(META)
    await asyncio.to_thread(hand_over, servers)
    await asyncio.sleep(MAP_SECONDS)
    await Continuity(other, PARTITIONS).trust()  # the successor is open, and is written to
    assert await asyncio.to_thread(hand_over, servers) is before
    with pytest.raises(LogUnavailable, match="UNVERIFIED"):
        await server.posted(thread_id)


async def test_a_server_that_is_away_takes_only_its_own_calls_along(
    server: LogServer, servers: RedisCluster
) -> None:
    metas = [PartitionKeys(partition).meta for partition in range(PARTITIONS)]
    owners = [servers.primary_of(meta) for meta in metas]
    calls = [Call(Script("open_partition"), [meta], ["another life"]) for meta in metas]
    assert await run_many(server.redis, calls) == [0] * PARTITIONS
    gone = owners[0]
    gone.end()
    try:
        replies = await run_many(server.redis, calls)
    finally:
        gone.start()
    for owner, reply in zip(owners, replies, strict=True):
        assert isinstance(reply, LogUnavailable) if owner is gone else reply == 0
    await asyncio.to_thread(servers.settled)


async def test_amid_a_move_a_script_is_refused_as_a_whole(
    server: LogServer, servers: RedisCluster
) -> None:
    """Of its keys the one that it names is still there; the one that it meets by name is gone."""
    _, lease = await server.running(await in_partition(server, 0))
    keys = server.keys(lease.thread_id)
    with half_moved(servers, keys.thread(lease.thread_id)):
        with pytest.raises(LogUnavailable, match="TryAgain"):
            await server.retention.report(0, "processing", {lease.thread_id: 1})
        with pytest.raises(LogUnavailable, match="TryAgain"):
            await server.append(lease, token(lease, lease.seq + 1))
        assert await server.hot.thread(lease.thread_id) is not None  # ASK is followed
    await Continuity(server.redis, PARTITIONS).trust()
    assert await server.append(lease, token(lease, lease.seq + 1)) == "OK"


async def test_channels_follow_their_slot(
    server: LogServer, servers: RedisCluster, other: Redis
) -> None:
    """Once by its move, once by a failover; each time it is confirmed again, then heard."""
    channel = PartitionKeys(0).thread("thr").encode()
    confirmed, heard = asyncio.Queue[bytes](8), asyncio.Queue[bytes](8)
    channels = channels_of(
        server.redis, confirmed=confirmed.put_nowait, heard=lambda _, data: heard.put_nowait(data)
    )
    listening = asyncio.create_task(channels.listen())
    channels.want(channel)
    try:
        async with asyncio.timeout(SECONDS_MAX):
            for number, strike in enumerate([None, move, hand_over]):
                if strike is not None:
                    await asyncio.to_thread(strike, servers)
                assert await confirmed.get() == channel
                await other.execute_command("SPUBLISH", channel, str(number))
                assert await heard.get() == str(number).encode()
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_what_stays_is_not_disturbed_when_another_slot_moves(
    server: LogServer, servers: RedisCluster
) -> None:
    """It has another subscription's connection, and keeps it."""
    stays = next(
        keys
        for keys in map(PartitionKeys, range(1, PARTITIONS))
        if servers.primary_of(keys.meta) is servers.primary_of(META)
    )
    first, *later = (stays.thread(f"thr{number}").encode() for number in range(3))
    moved = PartitionKeys(0).thread("thr").encode()
    confirmed = asyncio.Queue[bytes](8)
    channels = channels_of(
        server.redis, confirmed=confirmed.put_nowait, heard=lambda _channel, _data: None
    )
    listening = asyncio.create_task(channels.listen())
    try:
        async with asyncio.timeout(SECONDS_MAX):
            for channel in (first, moved):
                channels.want(channel)
                assert await confirmed.get() == channel
            await asyncio.to_thread(move, servers)
            assert await confirmed.get() == moved
            for channel in later:
                channels.want(channel)
                assert await confirmed.get() == channel, "the connection was made again"
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


def move(servers: RedisCluster) -> None:
    move_key_by_key(servers, META)


async def test_a_hasty_client_is_told_soon(servers: RedisCluster, server: LogServer) -> None:
    async with connect(servers.url, patience=HASTY) as hasty:
        await hasty.hget(META, "run")
        gone = servers.primary_of(META)
        gone.end()
        try:
            async with asyncio.timeout(5.0):
                with pytest.raises(LogUnavailable):
                    await LogServer(hasty, PARTITIONS).posted(_thread_in_partition_0())
        finally:
            gone.start()
            await asyncio.to_thread(servers.settled)


def _thread_in_partition_0() -> str:
    while partition_of_thread(thread_id := new_thread_id(), PARTITIONS):
        pass
    return thread_id
