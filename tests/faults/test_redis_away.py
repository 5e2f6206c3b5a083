"""Redis is killed, and comes back with everything: at once, or after a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.faults.arena import Arena, Row
from tests.faults.conftest import LEASE_SECONDS
from tests.faults.model_seen import model_seen
from tests.faults.stores import resident_bytes
from tests.faults.workload import Job, Reply

MACHINE_SECONDS = 1.5  # two cores, shared with whatever else runs
SHORT_OUTAGE_SECONDS = 0.3 * LEASE_SECONDS
HEARTBEAT_SECONDS = 0.5
# So long may Redis be away: the last beat may be that old, the next one be that late.
SURVIVED_SECONDS = LEASE_SECONDS - 2 * HEARTBEAT_SECONDS
BETWEEN_ASKS_SECONDS = 0.5
BETWEEN_LOOKS_SECONDS = 0.2
UNREAD_BYTES_MIN = 64 << 10
PING_SECONDS_MAX = 15.0  # the longest silence of a stream
GROWTH_BYTES_MAX = 48 << 20  # of a worker that holds back what it cannot write
ORCHESTRATORS = ("orchestrator-1", "orchestrator-2")


async def test_row_04_redis_is_killed_and_started_again(arena: Arena) -> None:
    async with arena.row("04 kill -9 Redis, AOF restart") as row:
        await row.users.stream(6)
        began = time.monotonic()
        async with row.faults.down("valkey"):
            pass
        away = time.monotonic() - began
    assert row.figures.attempts_max == 1 or away > SURVIVED_SECONDS
    assert row.figures.connections_max == 1


async def test_row_05_redis_is_away_for_less_than_a_lease(arena: Arena) -> None:
    async with arena.row(f"05 Redis down {SHORT_OUTAGE_SECONDS:g} s") as row:
        await row.users.stream(6)
        began = time.monotonic()
        async with row.faults.down("valkey"):
            await asyncio.sleep(SHORT_OUTAGE_SECONDS)
        away = time.monotonic() - began
    assert row.figures.attempts_max == 1 or away > SURVIVED_SECONDS
    assert row.figures.connections_max == 1


@pytest.mark.thorough
async def test_row_05_redis_is_away_for_several_leases(arena: Arena) -> None:
    seconds = arena.options.outage_seconds
    async with arena.row(f"05 Redis down {seconds:g} s") as row:
        jobs = await row.users.stream(4, agent="steady-long")
        async with watched(row, jobs[0]) as pinged, row.faults.down("valkey"):
            replies = await ask_in_vain(row, LEASE_SECONDS + MACHINE_SECONDS)
            seen = await model_seen(row.cluster)
            replies += await ask_in_vain(row, seconds - LEASE_SECONDS - MACHINE_SECONDS)
            assert (await model_seen(row.cluster)).tokens == seen.tokens, "nobody reads any more"
            assert all(viewer.connections == 1 for viewer in row.users.viewers)
            assert pinged() or seconds < PING_SECONDS_MAX + MACHINE_SECONDS
    assert {reply.status for reply in replies} == {503}
    assert row.figures.attempts_max <= 2
    assert row.figures.longest_pause_seconds < seconds + LEASE_SECONDS + MACHINE_SECONDS


async def test_row_05_a_fast_model_is_held_back(arena: Arena) -> None:
    """More is said than a worker may hold: it stops reading, long before its lease is over."""
    async with arena.row("05 Redis down, and a model that outruns memory") as row:
        await row.users.stream(1, agent="flood")
        before = memory(row)
        async with row.faults.down("valkey"):
            await held_back(row)
            assert all(
                now - then < GROWTH_BYTES_MAX for then, now in zip(before, memory(row), strict=True)
            )


async def ask_in_vain(row: Row, seconds: float) -> list[Reply]:
    """Ask again and again; nobody is to be told anything but to come later."""
    deadline = time.monotonic() + seconds
    replies: list[Reply] = []
    while time.monotonic() < deadline:
        key = f"in-vain-{row.random.getrandbits(64):016x}"
        reply = await row.users.send("POST", "/v1/jobs", {"query": "now?"}, key=key)
        assert reply.status == 503, reply
        assert reply.retry_after is not None
        replies.append(reply)
        await asyncio.sleep(min(BETWEEN_ASKS_SECONDS, max(deadline - time.monotonic(), 0)))
    return replies


@asynccontextmanager
async def watched(row: Row, job: Job) -> AsyncGenerator[Callable[[], bool]]:
    """A stream of the job, and whether it was kept awake by a comment since."""
    headers = {"Authorization": f"Bearer {row.cluster.token(job.user)}"}
    url = f"{row.cluster.url}/v1/jobs/{job.job_id}/events"
    pinged = asyncio.Event()

    async def read(content: aiohttp.StreamReader) -> None:
        while (line := await content.readline()) and line != b": ping\n":
            pass
        if line:
            pinged.set()

    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        response.raise_for_status()
        reading = asyncio.create_task(read(response.content))
        try:
            yield pinged.is_set
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def held_back(row: Row) -> None:
    """Wait until what the model has said stays where it is, in the kernel."""
    async with asyncio.timeout(LEASE_SECONDS):
        before = 0
        while (now := unread_bytes(row)) != before or now < UNREAD_BYTES_MIN:
            before = now
            await asyncio.sleep(BETWEEN_LOOKS_SECONDS)


def unread_bytes(row: Row) -> int:
    """What came from the model, and no worker has read."""
    model = f"0100007F:{urlsplit(row.cluster.llm_base_url).port:04X}"
    with open("/proc/net/tcp") as table:
        sockets = [line.split() for line in table]
    return sum(int(one[4].partition(":")[2], 16) for one in sockets if one[2] == model)


def memory(row: Row) -> list[int]:
    return [resident_bytes(row.cluster.pid(name)) for name in ORCHESTRATORS]
