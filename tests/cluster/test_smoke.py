"""Three primaries, and what services do with Redis, once each: seconds, beside all other tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from shared.backlog import Backlog
from shared.blocking_calls import blocking_calls
from shared.cluster_channels import channels_of
from shared.event_log import EventLog, Lease
from shared.quotas import Quotas
from shared.redis_client import connect
from shared.redis_scripts import Call
from tests.support.log_server import LogServer, token
from tests.support.redis_cluster import RedisCluster

PARTITIONS = 8
HEARD_SECONDS_MAX = 10.0


@pytest.fixture
async def server(tmp_path: Path, binary: Path | None) -> AsyncGenerator[tuple[LogServer, str]]:
    with RedisCluster(tmp_path, replicas=False, binary=binary) as servers:
        async with connect(servers.url) as redis:
            server = LogServer(redis, PARTITIONS)
            await server.prepare()
            yield server, servers.url


async def test_a_job_in_every_partition(server: tuple[LogServer, str]) -> None:
    log, url = server
    threads: dict[int, str] = {}
    while len(threads) < PARTITIONS:
        thread_id = await log.thread()
        threads[log.keys(thread_id).partition] = thread_id
    heard: dict[bytes, list[bytes]] = {}
    channels = channels_of(
        log.redis,
        confirmed=lambda channel: heard.update({channel: []}),
        heard=lambda channel, payload: heard[channel].append(payload),
    )
    listening = asyncio.create_task(channels.listen())
    names = [log.keys(thread_id).thread(thread_id).encode() for thread_id in threads.values()]
    try:
        for name in names:
            channels.want(name)
        async with asyncio.timeout(HEARD_SECONDS_MAX):
            while len(heard) < PARTITIONS:  # noqa: ASYNC110 -- no event tells of a callback
                await asyncio.sleep(0.01)
        await _answer_all(log, url, threads)
        async with asyncio.timeout(HEARD_SECONDS_MAX):
            while any(b"done" not in b"".join(heard[name]) for name in names):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    waiting = await Backlog(log.redis, PARTITIONS).look()
    assert [(one.is_open, one.commands_waiting) for one in waiting] == [(True, 0)] * PARTITIONS
    spent = await Quotas(log.redis).spend(user=("alice", 60), address=("::1", 60))
    assert [one.left for one in spent] == [59, 59]


async def _answer_all(log: LogServer, url: str, threads: dict[int, str]) -> None:
    """Posted, delivered, begun, its lease renewed, said and done."""
    for thread_id in threads.values():
        await log.posted(thread_id)
    leases: list[Lease] = []
    for partition in threads:
        delivery = await log.deliver(partition)
        assert delivery is not None
        begun = await log.begin(delivery)
        assert begun.lease is not None
        leases.append(begun.lease)
    calls = [log.log.renew_call(lease, "w1") for lease in leases]
    renewed = await asyncio.to_thread(_renew, url, calls)
    assert all(EventLog.renewed(reply).kept for reply in renewed)
    for lease in leases:
        assert await log.append(lease, token(lease, lease.seq + 1)) == "OK"
        assert await log.finish(lease, lease.seq + 2) == "OK"
    for thread_id in threads.values():
        assert (await log.history(thread_id))[-1] == "done"


def _renew(url: str, calls: list[Call]) -> list[Any]:
    blocking = blocking_calls(url, reply_seconds_max=5.0)
    try:
        return blocking.send(calls)
    finally:
        blocking.close()
