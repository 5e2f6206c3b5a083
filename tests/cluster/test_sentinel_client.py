"""The client that asks sentinels, when the primary it knew is not the primary any more."""

from __future__ import annotations

import asyncio

import pytest

from shared.blocking_calls import blocking_calls
from shared.cluster_channels import channels_of
from shared.continuity import Continuity
from shared.errors import LogUnavailable
from shared.event_log import EventLog, Lease
from shared.redis_client import connect
from tests.support.log_server import LogServer
from tests.support.sentinels import WatchedPrimary

SECONDS_MAX = 30.0


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
    async with connect(watched.url) as redis, connect(watched.url) as other:
        channels = channels_of(
            redis, confirmed=confirmed.put_nowait, heard=lambda _, data: heard.put_nowait(data)
        )
        listening = asyncio.create_task(channels.listen())
        channels.want(b"{hw:0}:thread:thr")
        try:
            async with asyncio.timeout(SECONDS_MAX):
                for strike in (False, True):
                    if strike:
                        before = watched.primary
                        watched.fail_over()
                        await asyncio.to_thread(watched.taken_over, before)
                    while await confirmed.get() != b"{hw:0}:thread:thr":
                        pass
                    await other.execute_command("SPUBLISH", "{hw:0}:thread:thr", "said")
                    assert await heard.get() == b"said"
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        await asyncio.to_thread(watched.settled)
