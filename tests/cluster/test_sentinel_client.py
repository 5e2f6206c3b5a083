"""The client that asks sentinels, when the primary it knew is not the primary any more."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.blocking_calls import blocking_calls
from shared.cluster_channels import channels_of
from shared.continuity import Continuity
from shared.errors import LogUnavailable
from shared.event_log import EventLog, Lease
from shared.redis_client import Redis, connect
from tests.support.log_server import LogServer
from tests.support.redis_cluster import Server, until
from tests.support.sentinels import WatchedPrimary

SECONDS_MAX = 30.0
CLIENTS = 4


async def test_a_successor_is_found_and_takes_no_writes_before_the_archive_was_asked(
    watched: WatchedPrimary,
) -> None:
    async with connect(watched.url) as redis:
        server = LogServer(redis)
        await server.prepare()
        _, lease = await server.running()
        primary = watched.primary
        primary.end()
        await asyncio.to_thread(watched.taken_over, primary)
        with pytest.raises(LogUnavailable, match="UNVERIFIED"):
            await server.posted(lease.thread_id)
        assert await server.hot.thread(lease.thread_id) is not None  # the replica had it
        await Continuity(redis, 1).trust()
        assert await server.posted(lease.thread_id)
        assert await asyncio.to_thread(_kept, watched.url, server.log, lease)
        primary.start()
        await asyncio.to_thread(watched.settled)


def _kept(url: str, log: EventLog, lease: Lease) -> bool:
    blocking = blocking_calls(url, reply_seconds_max=5.0)
    try:
        [reply] = blocking.send([log.renew_call(lease, "w1")])
        return EventLog.renewed(reply).kept
    finally:
        blocking.close()


async def test_a_listener_goes_along_when_the_primary_hands_over(watched: WatchedPrimary) -> None:
    confirmed, heard = asyncio.Queue[bytes](8), asyncio.Queue[bytes](8)
    before = watched.primary
    async with connect(watched.url) as redis:
        channels = channels_of(
            redis, confirmed=confirmed.put_nowait, heard=lambda _, data: heard.put_nowait(data)
        )
        listening = asyncio.create_task(channels.listen())
        channels.want(b"{hw:0}:thread:thr")
        try:
            async with asyncio.timeout(SECONDS_MAX):
                for strike in (False, True):
                    if strike:
                        watched.fail_over()
                    while await confirmed.get() != b"{hw:0}:thread:thr":
                        pass
                    assert not strike or before.is_primary, "sentinels have demoted it meanwhile"
                    await redis.execute_command("SPUBLISH", "{hw:0}:thread:thr", "said")
                    assert await heard.get() == b"said"
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        await asyncio.to_thread(watched.settled)


async def test_while_there_are_two_primaries_all_of_a_client_goes_to_the_newer(
    watched: WatchedPrimary,
) -> None:
    """Also who waits for an answer of the former one."""
    async with connect(watched.url) as redis:
        before = watched.primary
        await asyncio.gather(*(_port(redis) for _ in range(CLIENTS)))
        waiting = asyncio.create_task(cast("Any", redis.blpop(["{hw:0}:never"], timeout=0)))
        await _until_blocked(before, 1)
        watched.fail_over()
        async with asyncio.timeout(SECONDS_MAX):
            while await _port(redis) == before.port:  # noqa: ASYNC110 -- no event tells of it
                await asyncio.sleep(0.01)
        ports = await asyncio.gather(*(_port(redis) for _ in range(2 * CLIENTS)))
        await _until_blocked(before, 0)
        assert before.is_primary, "sentinels have demoted it meanwhile"
        assert before.port not in ports
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.to_thread(watched.settled)


def test_a_connection_that_the_loop_has_closed_is_a_lost_one(watched: WatchedPrimary) -> None:
    async def use() -> None:
        async with connect(watched.url) as redis:
            pool = cast("Any", redis.connection_pool)
            connection = await pool.get_connection()
            connection._writer.transport.abort()
            with pytest.raises(RedisConnectionError):
                await connection.send_command("PING")
            await pool.release(connection)
            assert await cast("Any", redis).ping()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(use())


async def _port(redis: Redis) -> int:
    return (await cast("Any", redis).info("server"))["tcp_port"]


async def _until_blocked(server: Server, count: int) -> None:
    holds = lambda: server.info("clients")["blocked_clients"] == count  # noqa: E731
    await asyncio.to_thread(until, holds, f"{count} to be blocked")
