"""A gateway that goes sends its viewers elsewhere, and goes."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from services.api import follower
from services.api.sse import RECONNECT_MS_MAX, RECONNECT_MS_MIN
from shared.errors import HeadwaterError
from shared.settings import Settings
from tests.integration.api.gateways import (
    Client,
    Running,
    proxied,
    running_gateway,
    token_for,
)
from tests.integration.api.processes import process_of, ready
from tests.integration.api.sse_client import Frame, Stream, as_seen, seen
from tests.integration.api.test_feed import STALLING, say_until_all_stall
from tests.integration.api.waiting import eventually, soon
from tests.integration.api.worker import Worker

DRAIN_SECONDS_MAX = 1.0


@pytest_asyncio.fixture(loop_scope="module")
async def leaving(settings: Settings) -> AsyncGenerator[Running]:
    """A gateway of the test's own."""
    async with running_gateway(settings) as running:
        yield running


async def drain(running: Running) -> None:
    began = time.monotonic()
    await soon(running.service.drain())
    assert time.monotonic() - began < DRAIN_SECONDS_MAX


def check_notice(frame: Frame) -> None:
    assert (frame.event, frame.data, frame.id) == ("reconnect", "{}", None)
    assert frame.retry is not None
    assert RECONNECT_MS_MIN <= int(frame.retry) <= RECONNECT_MS_MAX


async def test_viewers_are_sent_elsewhere_and_miss_nothing(
    leaving: Running, client: Client, worker: Worker, user: str
) -> None:
    attempt = await worker.ask(client)
    await attempt.say("a", "b")
    waiting = await client.ok("POST", "/v1/jobs", json={"query": "later"})
    paths = {
        f"/v1/jobs/{attempt.lease.job_id}/events": 3,
        f"/v1/threads/{attempt.lease.thread_id}/events": 5,
        f"/v1/jobs/{waiting['job_id']}/events": 0,
    }
    retries = set[str | None]()
    async with leaving.client(user) as theirs, AsyncExitStack() as stack:
        streams = [
            (await stack.enter_async_context(theirs.stream_events(path)), path, count)
            for path, count in [*paths.items()] * 5
        ]
        for stream, _, count in streams:
            await stream.take(count)
        draining = asyncio.create_task(drain(leaving))
        for stream, _, _ in streams:
            (notice,) = await stream.rest()
            assert stream.ended_cleanly
            check_notice(notice)
            retries.add(notice.retry)
        await draining
    assert len(retries) > 3  # they do not all come back at once
    await attempt.say("c")
    await attempt.end()
    records = await worker.records(attempt.lease.thread_id)
    path = f"/v1/jobs/{attempt.lease.job_id}/events"
    async with client.stream_events(path, after=3) as stream:
        assert seen(await stream.rest()) == as_seen(records[5:], by_seq=True)


async def test_a_posted_stream_is_sent_elsewhere_too(leaving: Running, user: str) -> None:
    body = {"query": "hi", "stream": True}
    async with (
        leaving.client(user) as theirs,
        theirs.stream_events("/v1/jobs", method="POST", json=body) as stream,
    ):
        draining = asyncio.create_task(drain(leaving))
        (notice,) = await stream.rest()
        check_notice(notice)
        await draining


async def test_who_comes_while_it_drains(
    leaving: Running, client: Client, worker: Worker, user: str
) -> None:
    attempt = await worker.ask(client)
    async with leaving.client(user) as theirs:
        leaving.gateway.health.draining = True
        leaving.gateway.feed.drain()  # as a drain begins; it listens for a moment more
        response = await theirs.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {"status": "not ready", "problems": ["draining"]}
        assert not await leaving.service.is_ready()
        assert await theirs.ok("GET", "/healthz") == {"status": "ok"}
        assert (await theirs.ok("POST", "/v1/jobs", json={"query": "hi"}))["status"] == "queued"
        path = f"/v1/jobs/{attempt.lease.job_id}/events"
        async with theirs.stream_events(path) as stream:
            check_notice((await stream.rest())[-1])
        await drain(leaving)


async def test_a_client_that_stalls_does_not_hold_it(
    leaving: Running, client: Client, worker: Worker, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "BUFFER_BYTES_MAX", 10_000)
    attempt = await worker.ask(client)
    path = f"/v1/jobs/{attempt.lease.job_id}/events"
    async with leaving.client(user) as theirs, theirs.stream_events(path, **STALLING) as stream:
        await stream.take(1)
        await say_until_all_stall(leaving, [attempt])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):  # what the process would wait for it
                await leaving.service.drain()
        await soon(leaving.service.stop())
        await soon(leaving.service.stop())


async def test_it_goes_also_while_redis_is_away(
    settings: Settings, client: Client, worker: Worker, user: str
) -> None:
    attempt = await worker.ask(client)
    path = f"/v1/jobs/{attempt.lease.job_id}/events"
    async with (
        proxied(settings) as (network, through),
        running_gateway(through) as leaving,
        leaving.client(user) as theirs,
        theirs.stream_events(path) as stream,
    ):
        await stream.take(1)
        network.cut(network.redis)
        for watched in leaving.gateway.feed._watched.values():
            watched.fall_behind()
        await eventually(lambda: not _level(leaving))
        draining = asyncio.create_task(drain(leaving))
        check_notice((await stream.rest())[-1])
        await draining


def _level(running: Running) -> bool:
    return all(follower.is_level for follower in running.gateway.feed._followers())


async def test_a_port_in_use_is_told(leaving: Running, settings: Settings) -> None:
    port = int(leaving.url.rpartition(":")[2])
    with pytest.raises(HeadwaterError, match="cannot listen"):
        async with running_gateway(settings.model_copy(update={"port": port})):
            pass


async def test_the_process_goes_when_it_is_asked_to(
    client: Client, worker: Worker, settings: Settings, tmp_path: Path, user: str
) -> None:
    attempt = await worker.ask(client)
    async with process_of(settings, tmp_path) as (process, port):
        await ready(process, tmp_path)
        url = f"http://127.0.0.1:{port}/v1/jobs/{attempt.lease.job_id}/events"
        headers = {"Authorization": f"Bearer {token_for(user)}"}
        async with Stream(url, headers) as stream:
            await stream.take(1)
            process.send_signal(signal.SIGTERM)
            check_notice((await stream.rest())[-1])
        assert await soon(process.wait()) == 0
        assert not (tmp_path / "ready").exists()
        assert process.stderr is not None
        assert b"Traceback" not in await process.stderr.read()


async def test_the_process_says_what_it_lacks(settings: Settings, tmp_path: Path) -> None:
    async with process_of(settings, tmp_path, HEADWATER_AUTH_SECRET="") as (process, _):
        _, told = await process.communicate()
    assert process.returncode == 1
    assert told == b"api: neither HEADWATER_AUTH_SECRET nor HEADWATER_AUTH_JWKS_URL is set\n"
