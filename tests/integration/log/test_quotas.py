"""Limits are exact for all who share them, and nothing that dies leaves a count behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.ids import new_job_id
from shared.keys import address_rate, jobs_of_user, streams_of_user, user_rate
from shared.quotas import ACCEPTING_SECONDS_MAX, STREAM_LEASE_SECONDS, Quotas, Renewal
from shared.redis_client import connect
from tests.support.log_server import LogServer, RepeatingRedis

LIMIT = 10
EACH_US = 6_000_000  # between two requests, at this limit
AT_ONCE = 60


@pytest.fixture
def quotas(redis: RepeatingRedis) -> Quotas:
    return Quotas(redis)


async def spend(quotas: Quotas, limit: int = LIMIT) -> Any:
    (spent,) = await quotas.spend(user=("alice", limit), address=None)
    return spent


async def exhaust(quotas: Quotas) -> None:
    for _ in range(LIMIT):
        assert (await spend(quotas)).allowed


# ── requests ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("limit", [1, 7, 10])
async def test_a_full_bucket_holds_the_limit_and_no_more(quotas: Quotas, limit: int) -> None:
    assert [(await spend(quotas, limit)).left for _ in range(limit)] == [*reversed(range(limit))]
    assert not (await spend(quotas, limit)).allowed


async def test_refused_requests_are_told_when_and_cost_nothing(quotas: Quotas) -> None:
    await exhaust(quotas)
    told = [await spend(quotas) for _ in range(3)]
    assert not any(spent.allowed for spent in told)
    assert all(0 < spent.retry_seconds <= EACH_US / 1e6 for spent in told)
    assert all(spent.left == 0 and 50 < spent.full_seconds <= 60 for spent in told)
    assert told[0].retry_seconds >= told[2].retry_seconds


async def test_it_fills_steadily(quotas: Quotas, redis: RepeatingRedis) -> None:
    await exhaust(quotas)
    name = user_rate("alice")
    full = int((await redis.get(name)) or 0)
    await redis.set(name, full - 3 * EACH_US)  # as if so much time had passed
    assert [(await spend(quotas)).allowed for _ in range(4)] == [True] * 3 + [False]


async def test_a_clock_that_was_set_back_locks_nobody_out(
    quotas: Quotas, redis: RepeatingRedis
) -> None:
    await exhaust(quotas)
    name = user_rate("alice")
    await redis.set(name, int((await redis.get(name)) or 0) + 3600 * 1_000_000)
    assert (await spend(quotas)).retry_seconds <= EACH_US / 1e6


async def test_many_at_once_over_several_clients(redis_url: str) -> None:
    clients = [connect(redis_url) for _ in range(3)]
    shared = [Quotas(client) for client in clients]
    spent = await asyncio.gather(*(spend(shared[n % 3]) for n in range(AT_ONCE)))
    for client in clients:
        await client.aclose()
    assert sum(one.allowed for one in spent) == LIMIT


async def test_users_and_addresses_have_buckets_of_their_own(
    quotas: Quotas, redis: RepeatingRedis
) -> None:
    both = await quotas.spend(user=("alice", 2), address=("::1", 3))
    other = await quotas.spend(user=("bob", 2), address=("::1", 3))
    assert [spent.left for spent in (*both, *other)] == [1, 2, 1, 1]
    for name in (user_rate("alice"), address_rate("::1")):
        assert 0 < await redis.pttl(name) <= 60_000


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────


async def take(quotas: Quotas, job_id: str | None = None, places: int = 2) -> bool:
    return await quotas.take_job("alice", job_id or new_job_id(0), places=places)


async def age(redis: Any, name: str, seconds: float) -> None:
    """Make every entry of a set so much older."""
    for member, score in await redis.zrange(name, 0, -1, withscores=True):
        await redis.zadd(name, {member: score - seconds * 1000})


async def test_only_so_many_jobs_at_once(quotas: Quotas, redis: RepeatingRedis) -> None:
    redis.repeats = True
    taken = await asyncio.gather(*(take(quotas, places=5) for _ in range(AT_ONCE)))
    assert sum(taken) == 5
    assert 0 < await redis.pttl(jobs_of_user("alice")) <= 3_600_000


async def test_a_place_is_free_when_its_job_is_over(quotas: Quotas, server: LogServer) -> None:
    jobs = [await accepted(server, quotas) for _ in range(2)]
    assert not await take(quotas)
    await age(server.redis, jobs_of_user("alice"), 10 * ACCEPTING_SECONDS_MAX)
    assert not await take(quotas), "they wait, however long"
    assert await server.log.request_cancel(*jobs[0]) == "cancelled"
    assert await take(quotas)
    assert not await take(quotas)


async def accepted(server: LogServer, quotas: Quotas) -> tuple[str, str]:
    """A job that waits, in a thread of its own: its id and its thread's."""
    command = server.command(await server.thread())
    assert await take(quotas, command.job_id)
    return await server.post(command), command.thread_id


async def test_a_gateway_that_died_before_it_asked_holds_no_place(
    quotas: Quotas, redis: RepeatingRedis
) -> None:
    assert [await take(quotas) for _ in range(3)] == [True, True, False]
    await age(redis, jobs_of_user("alice"), ACCEPTING_SECONDS_MAX - 5)
    assert not await take(quotas), "it may still be about to ask"
    await age(redis, jobs_of_user("alice"), 10)
    assert [await take(quotas) for _ in range(3)] == [True, True, False]


async def test_a_job_that_was_refused_gives_its_place_back(quotas: Quotas) -> None:
    job_id = new_job_id(0)
    assert await take(quotas, job_id, places=1)
    assert await take(quotas, job_id, places=1), "sent again"
    assert not await take(quotas, places=1)
    await quotas.give_back_job("alice", job_id)
    assert await take(quotas, places=1)


# ── streams ──────────────────────────────────────────────────────────────────────────────────────


async def open_stream(quotas: Quotas, name: str, *closed: str) -> bool:
    return await quotas.open_stream("alice", name, places=2, closed=closed)


async def test_only_so_many_streams_at_once(quotas: Quotas, redis: RepeatingRedis) -> None:
    redis.repeats = True
    opened = await asyncio.gather(*(open_stream(quotas, str(n)) for n in range(AT_ONCE)))
    assert sum(opened) == 2
    assert 0 < await redis.pttl(streams_of_user("alice")) <= STREAM_LEASE_SECONDS * 1000


async def test_leases_of_a_gateway_that_is_gone_run_out(
    quotas: Quotas, redis: RepeatingRedis
) -> None:
    assert await open_stream(quotas, "dead 1")
    assert await open_stream(quotas, "dead 2")
    await age(redis, streams_of_user("alice"), STREAM_LEASE_SECONDS - 5)
    assert not await open_stream(quotas, "new")
    await quotas.keep_streams([Renewal("alice", ["dead 2"], [])])
    await age(redis, streams_of_user("alice"), 10)
    assert await open_stream(quotas, "new")
    assert not await open_stream(quotas, "newer"), "one of them was renewed"


async def test_what_closed_is_free_in_the_same_step(quotas: Quotas) -> None:
    assert await open_stream(quotas, "1")
    assert await open_stream(quotas, "2")
    assert await open_stream(quotas, "3", "1")
    assert not await open_stream(quotas, "4")
    await quotas.keep_streams([Renewal("alice", ["2"], ["3"])])
    assert await open_stream(quotas, "4")


async def test_leases_come_back_when_redis_has_lost_them(
    quotas: Quotas, redis: RepeatingRedis
) -> None:
    await redis.flushall()
    await quotas.keep_streams([Renewal("alice", ["1", "2"], []), Renewal("bob", ["3"], [])])
    assert not await open_stream(quotas, "4")
    assert await redis.zcard(streams_of_user("bob")) == 1
