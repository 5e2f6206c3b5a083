"""Limits of requests, jobs and streams: shared by gateways, told to clients, not in the way."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from services.api import stream_leases
from services.api.lenient import Lenient
from services.api.stream_leases import StreamLeases
from shared.keys import jobs_of_user, streams_of_user
from shared.quotas import Quotas
from shared.redis_client import HASTY, Redis, connect
from shared.settings import Settings
from tests.integration.api.gateways import (
    Client,
    Running,
    problem_of,
    proxied,
    running_gateway,
)
from tests.integration.api.waiting import eventually
from tests.integration.api.worker import Worker

AT_ONCE = 16
LET_THROUGH_SECONDS_MAX = 2.0  # measured: 0.26 s


@asynccontextmanager
async def gateways(
    settings: Settings, count: int = 1, **limits: Any
) -> AsyncGenerator[list[Running]]:
    async with AsyncExitStack() as stack:
        limited = settings.model_copy(update=limits)
        yield [await stack.enter_async_context(running_gateway(limited)) for _ in range(count)]


@asynccontextmanager
async def clients(
    settings: Settings, user: str | None, count: int = 1, **limits: Any
) -> AsyncGenerator[list[Client]]:
    """Clients of one user, each of a gateway of its own."""
    async with gateways(settings, count, **limits) as running, AsyncExitStack() as stack:
        yield [await stack.enter_async_context(one.client(user)) for one in running]


def policies(response: httpx.Response, name: str) -> dict[str, dict[str, int]]:
    """A list of strings with whole numbers as parameters (RFC 9651)."""
    found: dict[str, dict[str, int]] = {}
    for item in response.headers[name].split(", "):
        assert re.fullmatch(r'"[a-z]+"(;[a-z]=\d+)+', item), item
        policy, *parameters = item.split(";")
        found[policy.strip('"')] = {p[0]: int(p[2:]) for p in parameters}
    return found


# ── requests ─────────────────────────────────────────────────────────────────────────────────────


async def test_gateways_count_together_and_say_so(settings: Settings, user: str) -> None:
    async with clients(settings, user, 2, rate_limit_per_minute=6) as both:
        answers = [await both[n % 2].get("/v1/agents") for n in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 6
        for n, answer in enumerate(answers):
            assert policies(answer, "RateLimit-Policy") == {"user": {"q": 6, "w": 60}}
            (standing,) = policies(answer, "RateLimit").values()
            assert standing["r"] == 5 - n
            assert 10 * n < standing["t"] <= 10 * (n + 1)
        refused = await both[0].get("/v1/agents")
        assert problem_of(refused) == (429, "rate_limited")
        assert 1 <= int(refused.headers["Retry-After"]) <= 10
        assert policies(refused, "RateLimit")["user"]["r"] == 0
        assert (await both[0].get("/healthz")).status_code == 200


async def test_many_at_once(settings: Settings, user: str) -> None:
    async with clients(settings, user, 2, rate_limit_per_minute=5) as both:
        answers = await asyncio.gather(*(both[n % 2].get("/v1/agents") for n in range(AT_ONCE)))
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 11


async def test_another_user_is_not_concerned(settings: Settings, user: str) -> None:
    async with (
        gateways(settings, rate_limit_per_minute=1) as (running,),
        running.client(user) as client,
        running.client(f"{user}-2") as other,
    ):
        answers = [await c.get("/v1/agents") for c in (client, client, other)]
        assert [answer.status_code for answer in answers] == [200, 429, 200]


async def test_problems_cost_and_say_as_much(settings: Settings, user: str) -> None:
    async with clients(settings, user, rate_limit_per_minute=9) as (client,):
        missing = await client.get("/v1/jobs/job_00none")
        assert problem_of(missing) == (404, "not_found")
        assert policies(missing, "RateLimit")["user"]["r"] == 8


async def forwarded(client: Client, *hosts: str) -> list[int]:
    """The statuses of requests that are said to come from these hosts."""
    return [
        (await client.get("/v1/agents", headers={"X-Forwarded-For": host})).status_code
        for host in hosts
    ]


async def test_an_address_pays_for_tokens_that_are_refused(
    settings: Settings, redis: Redis
) -> None:
    limits = {"rate_limit_per_address": 2, "trusted_proxies": ("127.0.0.0/8",)}
    async with clients(settings, None, **limits) as (client,):
        mine, neighbour, other = "198.51.100.1", "198.51.100.2", "203.0.113.9, 198.51.100.1"
        assert await forwarded(client, mine, mine, mine, neighbour) == [401, 401, 429, 401]
        assert await forwarded(client, other) == [429], (
            "what a client says in front is not believed"
        )
        one_network = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3", "2001:db8:0:1::1"]
        assert await forwarded(client, *one_network) == [401, 401, 429, 401]


async def test_an_address_is_the_connections_unless_a_proxy_is_trusted(
    settings: Settings, user: str
) -> None:
    limits = {"rate_limit_per_address": 2, "rate_limit_per_minute": 50}
    async with clients(settings, user, **limits) as (client,):
        hosts = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
        assert await forwarded(client, *hosts) == [200, 200, 429]
        refused = await client.get("/v1/agents")
        assert list(policies(refused, "RateLimit")) == ["user", "address"]


async def test_nobody_waits_for_a_redis_that_is_away(settings: Settings, user: str) -> None:
    async with (
        proxied(settings) as (network, through),
        clients(through, user, rate_limit_per_minute=5) as (client,),
    ):
        assert "RateLimit" in (await client.get("/v1/agents")).headers
        network.cut(network.redis)
        began = time.monotonic()
        answers = [await client.get("/v1/agents") for _ in range(8)]
        assert time.monotonic() - began < LET_THROUGH_SECONDS_MAX
        assert [answer.status_code for answer in answers] == [200] * 8
        assert not any("RateLimit" in answer.headers for answer in answers)


async def test_one_round_trip_a_request(settings: Settings, user: str, redis: Redis) -> None:
    """Both buckets are asked together, and nothing else is."""
    limits = {"rate_limit_per_minute": 500, "rate_limit_per_address": 500}
    async with gateways(settings, **limits) as (running,), running.client(user) as client:
        await client.ok("GET", "/v1/agents")
        sent: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            pipeline = type(running.redis.pipeline(transaction=False))
            execute = pipeline.execute

            async def counted(self: Any, *args: Any, **more: Any) -> Any:
                if user in repr(self.command_stack):
                    sent.append(len(self.command_stack))
                return await execute(self, *args, **more)

            patch.setattr(pipeline, "execute", counted)
            await client.ok("GET", "/v1/agents")
        assert sent == [2]


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────


async def ask(client: Client, **more: Any) -> httpx.Response:
    headers = {"Idempotency-Key": more.pop("key")} if "key" in more else {}
    return await client.post("/v1/jobs", json={"query": "hi", **more}, headers=headers)


async def test_only_so_many_jobs_on_all_gateways(
    settings: Settings, user: str, worker: Worker
) -> None:
    async with clients(settings, user, 2, jobs_per_user=3) as both:
        answers = await asyncio.gather(*(ask(both[n % 2]) for n in range(AT_ONCE)))
        accepted = [answer.json() for answer in answers if answer.status_code == 202]
        refused = [answer for answer in answers if answer.status_code != 202]
        assert len(accepted) == 3
        assert {problem_of(answer) for answer in refused} == {(429, "too_many_jobs")}
        assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
        threads = await both[0].ok("GET", "/v1/threads")
        assert len(threads["items"]) == 3, "what was refused has left nothing"
        await worker.answer(accepted[0]["job_id"])
        await both[0].ok("POST", f"/v1/jobs/{accepted[1]['job_id']}/cancel")
        after = [(await ask(both[0])).status_code for _ in range(3)]
        assert after == [202, 202, 429]


async def test_a_repeat_needs_no_room(settings: Settings, user: str) -> None:
    async with clients(settings, user, jobs_per_user=1) as (client,):
        first = await ask(client, key="k")
        assert (await ask(client, key="k")).json() == first.json()
        assert problem_of(await ask(client, key="other")) == (429, "too_many_jobs")
        assert problem_of(await ask(client, key="k", metadata={"a": 1}))[0] == 422


async def test_what_is_refused_or_repeated_gives_its_place_back(
    settings: Settings, user: str, redis: Redis
) -> None:
    async with clients(settings, user, jobs_per_user=9) as (client,):
        first = (await ask(client, key="k")).json()
        thread = first["thread_id"]
        assert (await ask(client, key="k")).json() == first
        busy = await ask(client, thread_id=thread, on_busy="reject")
        assert problem_of(busy) == (409, "thread_busy")
        held = await redis.zrange(jobs_of_user(user), 0, -1)
        assert held == [first["job_id"].encode()]


# ── streams ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def quick_leases() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_leases, "ROUND_SECONDS", 0.05)
        patch.setattr(stream_leases, "RENEW_SECONDS", 0.1)
        yield


async def streams_path(client: Client) -> str:
    thread = await client.ok("POST", "/v1/threads", json={})
    return f"/v1/threads/{thread['thread_id']}/events"


async def test_only_so_many_streams_on_all_gateways(
    settings: Settings, user: str, quick_leases: None
) -> None:
    async with clients(settings, user, 2, streams_per_user=2) as (one, other):
        path = await streams_path(one)
        async with one.stream_events(path) as first:
            await first.take(1)
            async with other.stream_events(path):
                assert await one.problem("GET", path) == (429, "too_many_streams")
                refused = await ask(other, stream=True)
                assert problem_of(refused) == (429, "too_many_streams")
                assert refused.headers["Retry-After"] == "1"
                page = await one.ok("GET", "/v1/threads")
                assert len(page["items"]) == 1, "nothing was asked"

            async def again() -> None:
                async with one.stream_events(path) as stream:
                    await stream.take(1)

            await eventually(lambda: _succeeds(again))


async def _succeeds(attempt: Any) -> bool:
    try:
        await attempt()
    except AssertionError:
        return False
    return True


async def test_a_stream_gives_its_place_back_however_it_ends(
    settings: Settings, user: str, worker: Worker, redis: Redis, quick_leases: None
) -> None:
    name = streams_of_user(user)

    async def held(count: int) -> bool:
        return await redis.zcard(name) == count

    async with clients(settings, user, streams_per_user=9) as (client,):
        attempt = await worker.ask(client)
        events = f"/v1/jobs/{attempt.lease.job_id}/events"
        async with client.stream_events(events) as stream:
            await stream.take(1)
            assert await held(1)
            await attempt.end()
            await stream.rest()
            await eventually(lambda: held(0))
        async with client.stream_events(events, after=2) as stream:
            assert await stream.rest() == []
        await eventually(lambda: held(0))
        async with client.stream_events(await streams_path(client)) as stream:
            await stream.take(1)
            assert await held(1)
        await eventually(lambda: held(0))
        busy = {"thread_id": attempt.lease.thread_id, "agent": "nobody", "stream": True}
        assert (await ask(client, **busy)).status_code == 400
        await eventually(lambda: held(0))


async def test_open_streams_are_renewed_and_killed_gateways_are_not(
    settings: Settings, user: str, redis: Redis, quick_leases: None
) -> None:
    name = streams_of_user(user)
    async with clients(settings, user, streams_per_user=2) as (client,):
        path = await streams_path(client)
        async with client.stream_events(path) as stream:
            await stream.take(1)
            (mine,) = await redis.zrange(name, 0, -1)
            await redis.delete(name)  # lost, as with a Redis that forgot
            assert await Quotas(redis).open_stream(user, "of a killed gateway", places=2)

            async def is_back() -> bool:
                return mine in await redis.zrange(name, 0, -1)

            await eventually(is_back)
            assert await client.problem("GET", path) == (429, "too_many_streams")
            await redis.zadd(name, {"of a killed gateway": 1})  # its lease has run out
            async with client.stream_events(path) as other:
                await other.take(1)


async def test_a_lease_that_nobody_holds_is_not_renewed(redis: Redis, user: str) -> None:
    leases = StreamLeases(Quotas(redis), Lenient(), per_user=2)
    lease = await leases.open(user)
    assert leases.open_count == 1
    with lease:
        assert leases.open_count == 1
    assert leases.open_count == 0
    lease = await leases.open(user)
    del lease  # its client left before the stream began
    assert leases.open_count == 0


async def test_streams_open_without_redis(settings: Settings, user: str) -> None:
    async with proxied(settings) as (network, through):
        redis = connect(through.required("redis_url"), patience=HASTY)
        network.cut(network.redis)
        leases = StreamLeases(Quotas(redis), Lenient(), per_user=1)
        with await leases.open(user), await leases.open(user):
            assert leases.open_count == 2
        await redis.aclose()
