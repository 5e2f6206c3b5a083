"""Redis or Postgres away: what can be served is served, the rest is told, and streams stay open."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from services.api import feed, follower
from shared import channels
from shared.settings import Settings
from tests.integration.api.gateways import (
    Client,
    Network,
    Running,
    problem_of,
    proxied,
    running_gateway,
)
from tests.integration.api.persisting import archive_all, let_go, trim
from tests.integration.api.sse_client import Frame, Stream, as_seen, seen
from tests.integration.api.waiting import eventually, soon
from tests.integration.api.worker import Attempt, Worker
from tests.support.proxy import Fault
from tests.support.servers import Server, open_partitions


@pytest.fixture(scope="module", autouse=True)
def quick() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "PING_SECONDS", 0.2)
        patch.setattr(feed, "SWEEP_SECONDS", 0.1)
        patch.setattr(follower, "RETRY_SECONDS", 0.1)
        patch.setattr(channels, "PING_SECONDS", 0.2)
        yield


@dataclass
class Place:
    """A gateway behind a network that can fail, and a client of it."""

    running: Running
    network: Network
    client: Client


@pytest_asyncio.fixture(loop_scope="module")
async def place(settings: Settings, user: str) -> AsyncGenerator[Place]:
    async with (
        proxied(settings) as (network, through),
        running_gateway(through) as running,
        running.client(user) as client,
    ):
        yield Place(running, network, client)


def events_of(attempt: Attempt) -> str:
    return f"/v1/jobs/{attempt.lease.job_id}/events"


async def ping(stream: Stream) -> Frame:
    """The next comment, which only a stream that is alive sends."""
    while True:
        frame = await soon(stream.next_frame())
        assert frame is not None, "the stream has ended"
        if frame.comment is not None:
            return frame


async def check_unavailable(
    client: Client, code: str, *calls: tuple[str, str, dict[str, Any]]
) -> None:
    for method, path, more in calls:
        response = await client.request(method, path, **more)
        assert problem_of(response) == (503, code), (method, path)
        assert response.headers["Retry-After"] == "1"


async def test_redis_away(place: Place, worker: Worker) -> None:
    client, network = place.client, place.network
    attempt = await worker.ask(client)
    thread = f"/v1/threads/{attempt.lease.thread_id}"
    async with client.stream_events(events_of(attempt)) as stream:
        await stream.take(1)
        network.cut(network.redis)
        await attempt.say("while it is away")
        await check_unavailable(
            client,
            "log_unavailable",
            ("POST", "/v1/jobs", {"json": {"query": "hi"}}),
            ("PATCH", thread, {"json": {"title": "x"}}),
            ("GET", f"/v1/jobs/{attempt.lease.job_id}?", {}),
            ("GET", f"{events_of(attempt)}?format=json", {}),
        )
        response = await client.get("/readyz")
        assert (response.status_code, response.json()["problems"]) == (503, ["redis"])
        assert (await client.get("/healthz")).status_code == 200
        await ping(stream)
        await ping(stream)
        network.redis.heal()
        assert (await stream.take(1))[0].json()["content"] == "while it is away"
        await attempt.say("and live")
        await attempt.end()
        assert [frame.event for frame in await stream.rest()] == ["token", "done"]
    assert (await client.get("/readyz")).status_code == 200
    assert not any(task.done() for task in place.running.gateway.feed.tasks)


@pytest.mark.parametrize(("how", "seconds_max"), [("refuses", 2.0), ("silent", 5.0)])
async def test_who_waits_for_redis_is_told_soon(place: Place, how: str, seconds_max: float) -> None:
    question = {"json": {"query": "hi"}}
    await place.client.ok("POST", "/v1/jobs", **question)
    redis = place.network.redis
    if how == "refuses":
        place.network.cut(redis)
    else:
        redis.black_hole()
    for _ in range(2):  # over a connection that was open, and over a new one
        began = time.monotonic()
        await check_unavailable(place.client, "log_unavailable", ("POST", "/v1/jobs", question))
        assert time.monotonic() - began < seconds_max
    redis.heal()


async def test_redis_killed_and_started_again(
    client: Client, gateway: Running, worker: Worker, valkey_server: Server
) -> None:
    attempt = await worker.ask(client)
    async with client.stream_events(events_of(attempt)) as stream:
        await stream.take(1)
        with valkey_server.away():
            await check_unavailable(
                client, "log_unavailable", ("POST", "/v1/threads", {"json": {}})
            )
            await ping(stream)
        open_partitions(valkey_server.url)
        await attempt.say("again")
        await attempt.end()
        assert [frame.event for frame in await stream.rest()] == ["token", "done"]
    assert (await client.post("/v1/threads", json={})).status_code == 201


async def test_a_subscription_that_hears_nothing_any_more(
    place: Place, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is open, and silent: the peer has vanished without a word."""
    monkeypatch.setattr(feed.Feed, "_sweep", _no_sweep)
    attempt = await worker.ask(place.client)
    place.network.redis.on_reply(Fault.HOLE, to=b"SSUBSCRIBE")
    async with place.client.stream_events(events_of(attempt)) as stream:
        await stream.take(1)
        await eventually(lambda: place.network.redis.faults_met == 1)
        await attempt.say("unheard")
        await attempt.end()
        assert [frame.event for frame in await stream.rest()] == ["token", "done"]


async def _no_sweep(_: feed.Feed) -> None:
    """As if nobody looked."""


async def test_postgres_away(place: Place, worker: Worker, settings: Settings) -> None:
    client, network = place.client, place.network
    gone = await worker.ask(client)
    await gone.end()
    await archive_all(settings, worker.redis)
    await let_go(worker, gone.lease.thread_id)
    network.cut(network.postgres)
    attempt = await worker.ask(client)
    thread = f"/v1/threads/{attempt.lease.thread_id}"
    async with client.stream_events(events_of(attempt)) as stream:
        await attempt.say("live")
        assert (await client.ok("GET", thread))["active_job_id"] == attempt.lease.job_id
        await client.ok("PATCH", thread, json={"title": "x"})
        await client.ok("POST", f"{thread}/messages", json={"content": "next"})
        await client.ok("POST", "/v1/threads", json={})
        assert (await client.ok("GET", f"/v1/jobs/{attempt.lease.job_id}"))["status"] == "running"
        assert len((await client.ok("GET", f"{events_of(attempt)}?format=json"))["items"]) == 2
        await client.ok("POST", f"/v1/jobs/{attempt.lease.job_id}/cancel")
        await attempt.end("cancelled")
        events = [frame.event for frame in await stream.rest()]
        assert events == ["started", "token", "done"]
    await check_unavailable(
        client,
        "archive_unavailable",
        ("GET", "/v1/threads", {}),
        ("GET", f"{thread}/messages", {}),
        ("GET", f"/v1/threads/{gone.lease.thread_id}", {}),
        ("GET", f"/v1/jobs/{gone.lease.job_id}", {}),
        ("GET", events_of(gone), {}),
        ("POST", f"/v1/threads/{gone.lease.thread_id}/messages", {"json": {"content": "hi"}}),
    )
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["problems"]) == (503, ["postgres"])
    network.postgres.heal()
    assert (await client.get("/readyz")).status_code == 200
    assert (await client.ok("GET", f"/v1/jobs/{gone.lease.job_id}"))["status"] == "done"


async def test_a_stream_waits_for_its_archive(
    place: Place, worker: Worker, settings: Settings
) -> None:
    """Its head is archived and no longer in Redis; Postgres is away when it is asked for."""
    client, network = place.client, place.network
    attempt = await worker.ask(client)
    await attempt.say(*"abcdef")
    records = await worker.records(attempt.lease.thread_id)
    await archive_all(settings, worker.redis)
    await trim(worker, attempt.lease.thread_id, before=7)
    network.cut(network.postgres)
    async with client.stream_events(events_of(attempt)) as stream:
        await ping(stream)
        assert not [frame for frame in stream.frames if frame.comment is None]
        network.postgres.heal()
        assert seen(await stream.take(7)) == as_seen(records[2:], by_seq=True)
        await attempt.end()
        assert [frame.event for frame in await stream.rest()] == ["done"]
