"""Clients that are cut off, that take nothing, that go in the middle: a gateway bears them all."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from infra.local.cluster import LocalCluster
from tests.faults.arena import Arena, Row
from tests.faults.history import Record
from tests.faults.oddities import SEND_SECONDS_MAX, WORDS
from tests.faults.slow_clients import (
    connections_of,
    is_connected,
    reading_process,
    slow_clients,
)
from tests.faults.stores import resident_bytes
from tests.faults.workload import Job
from tests.support.gateway_client import parse_sse
from tests.support.proxy import Proxy

VIEWERS = 100
RECONNECT_SECONDS_MAX = 3.0
SILENT, TRICKLING = 45, 5
BYTES_PER_CLIENT_MAX = 1 << 20
DROPPED = 8
DROPPED_AFTER = 50
HEALTH_SECONDS_MAX = 0.05
HEALTH_PROBES = 20
HEALTH_MACHINE_SECONDS = 0.3
MACHINE_SECONDS = 1.0  # two cores, shared with whatever else runs
REPLAY_SECONDS_MAX = 20.0
GIVEN_UP_SECONDS_MAX = 3 * SEND_SECONDS_MAX
POLL_SECONDS = 0.02


def reconnect_seconds(records: Sequence[Record]) -> list[float]:
    """From each cut of a viewer to the first event of its next connection, in order of size."""
    cut: dict[str, float] = {}
    found: list[float] = []
    for one in records:
        if one["kind"] == "cut" and one["why"] != "done":
            cut.setdefault(one["viewer"], one["t"])
        elif one["kind"] == "event" and one["viewer"] in cut:
            found.append(one["t"] - cut.pop(one["viewer"]))
    return sorted(found)


async def left_alone(row: Row, url: str, seconds_max: float) -> None:
    """Wait until a gateway holds no connection any more."""
    await row.users.until(lambda: not connections_of(url), "the end of connections", seconds_max)


async def long_stream(row: Row) -> Job:
    """A job of more than WORDS events, which is over."""
    job = await row.users.ask("go on and on", agent="wordy")
    viewer = row.users.watch(job)
    await row.users.until(lambda: viewer.is_done, "the long stream", seconds_max=60.0)
    assert len(viewer.events) > WORDS
    return job


def path_of(job: Job) -> str:
    return f"/v1/jobs/{job.job_id}/events"


async def test_row_03_kill_9_gateway_with_100_clients(arena: Arena) -> None:
    async with arena.row("03 kill -9 gateway with 100 clients") as row:
        urls = arena.cluster.urls
        row.users.urls = urls[:1]
        await row.users.stream(4, agent="drip", viewers=VIEWERS // 4)
        row.users.urls = urls
        row.faults.kill("api-1")
        await row.users.finished()
    seconds = reconnect_seconds(row.records)
    assert len(seconds) >= VIEWERS
    assert seconds[len(seconds) * 99 // 100 - 1] < RECONNECT_SECONDS_MAX + MACHINE_SECONDS
    assert row.figures.attempts_max == 1


@pytest.mark.thorough
async def test_row_10_clients_that_take_nothing(odd_arena: Arena) -> None:
    async with odd_arena.row("10 50 slow clients, one stopped, one behind a black hole") as row:
        cluster, job = odd_arena.cluster, await long_stream(row)
        url, path, token = cluster.urls[0], path_of(job), cluster.token(job.user)
        await row.users.stream(6, agent="steady-long")
        before = resident_bytes(cluster.pid("api-1"))
        async with (
            row.faults.lasting("slow clients"),
            slow_clients(url, path, token, silent=SILENT, trickling=TRICKLING),
            absent_clients(row, url, path, token),
        ):
            most = await _most_memory(row.users.finished(), cluster)
            await left_alone(row, url, GIVEN_UP_SECONDS_MAX)
    assert most - before <= (SILENT + TRICKLING) * BYTES_PER_CLIENT_MAX
    assert row.figures.longest_pause_seconds < MACHINE_SECONDS
    assert row.figures.attempts_max == 1


@asynccontextmanager
async def absent_clients(row: Row, url: str, path: str, token: str) -> AsyncGenerator[None]:
    """One whose process is stopped, and one that a network has swallowed."""
    async with Proxy("127.0.0.1", int(url.rpartition(":")[2])) as proxy:
        with (
            reading_process(url, path, token) as pid,
            reading_process(proxy.url(url), path, token) as other,
        ):
            await row.users.until(lambda: is_connected(pid) and is_connected(other), "two clients")
            os.kill(pid, signal.SIGSTOP)
            proxy.black_hole()
            yield


async def _most_memory(work: Coroutine[Any, Any, None], cluster: LocalCluster) -> int:
    """The most memory that the gateway has in use while something lasts."""
    working = asyncio.create_task(work)
    most = 0
    while not working.done():
        most = max(most, resident_bytes(cluster.pid("api-1")))
        await asyncio.sleep(POLL_SECONDS)
    working.result()
    return most


async def test_row_11_clients_that_go_during_a_long_replay(odd_arena: Arena) -> None:
    async with odd_arena.row("11 clients drop during a replay") as row:
        job = await long_stream(row)
        url = odd_arena.cluster.urls[0]
        token = odd_arena.cluster.token(job.user)
        over = asyncio.Event()
        probing = asyncio.create_task(_slowest_health(url, over))
        async with row.faults.lasting("8 replays dropped"):
            replays = (_drop_a_replay(url, path_of(job), token) for _ in range(DROPPED))
            await asyncio.gather(*replays)
            over.set()
            slowest = await probing
        await left_alone(row, url, REPLAY_SECONDS_MAX)
    assert slowest < HEALTH_SECONDS_MAX + HEALTH_MACHINE_SECONDS


async def _drop_a_replay(url: str, path: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        asyncio.timeout(REPLAY_SECONDS_MAX),
        aiohttp.ClientSession(headers=headers) as session,
        session.get(url + path) as response,
        aclosing(parse_sse(response.content)) as events,
    ):
        async for event in events:
            if event["seq"] >= DROPPED_AFTER:
                response.close()
                return


async def _slowest_health(url: str, over: asyncio.Event) -> float:
    """The longest time that one of the probes took, up to HEALTH_PROBES after it is over."""
    slowest, left = 0.0, HEALTH_PROBES
    async with aiohttp.ClientSession() as session:
        while left:
            left -= over.is_set()
            began = time.monotonic()
            async with session.get(url + "/healthz") as response:
                assert response.status == 200
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(POLL_SECONDS)
    return slowest
