"""Limits of requests and jobs: shared by gateways, told to clients, and not in the way."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from shared.joint_client import JointRedis
from shared.keys import jobs_of_user
from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.api.gateways import Client, problem_of, proxied
from tests.integration.api.limited import ask, clients, gateways
from tests.integration.api.worker import Worker

AT_ONCE = 16
LET_THROUGH_SECONDS_MAX = 2.0  # measured: 0.1 s


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
            carry_out = JointRedis.carry_out

            async def counted(self: JointRedis, commands: Sequence[Any]) -> list[Any]:
                if user in repr(commands):
                    sent.append(len(commands))
                return await carry_out(self, commands)

            patch.setattr(JointRedis, "carry_out", counted)
            await client.ok("GET", "/v1/agents")
        assert sent == [2]


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────


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
