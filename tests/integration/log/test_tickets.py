"""One-use tickets on the real server: one visit, one thing, a moment, and nothing to steal."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, cast

import pytest

from shared.ids import new_job_id, new_thread_id
from shared.redis_client import Redis
from shared.tickets import Holder, Tickets

PARTITIONS = 2
SECONDS = 30
HOLDER = Holder("alice", "phone", 2_000_000_000)


@pytest.fixture
def tickets(redis: Redis) -> Tickets:
    return Tickets(redis, PARTITIONS)


@pytest.mark.parametrize("thing_id", [new_thread_id(), new_job_id(1), new_job_id(255)])
async def test_a_ticket_is_good_once_and_for_one_thing(tickets: Tickets, thing_id: str) -> None:
    ticket = await tickets.issue(HOLDER, thing_id, seconds=SECONDS)
    for other in (new_thread_id(), new_job_id(1), "", "thr_", f"{thing_id}0"):
        assert await tickets.redeem(ticket, other) is None
    for wrong in (ticket[::-1], ticket[:-1], f"{ticket}=", "", "*", "\ud800"):
        assert await tickets.redeem(wrong, thing_id) is None
    assert await tickets.redeem(ticket, thing_id) == HOLDER
    assert await tickets.redeem(ticket, thing_id) is None


async def test_of_many_who_come_at_once_one_enters(tickets: Tickets) -> None:
    thread_id = new_thread_id()
    ticket = await tickets.issue(HOLDER, thread_id, seconds=SECONDS)
    visits = await asyncio.gather(*(tickets.redeem(ticket, thread_id) for _ in range(16)))
    assert sorted(visits, key=str) == [HOLDER, *[None] * 15]


async def test_a_visit_whose_reply_was_lost_may_be_sent_again(
    tickets: Tickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id = new_thread_id()
    ticket = await tickets.issue(HOLDER, thread_id, seconds=SECONDS)
    with monkeypatch.context() as patch:
        patch.setattr(secrets, "token_hex", lambda _: "the visit")
        for _ in range(3):
            assert await tickets.redeem(ticket, thread_id) == HOLDER
    assert await tickets.redeem(ticket, thread_id) is None


async def test_what_redis_holds_is_gone_in_time_and_opens_nothing(
    tickets: Tickets, redis: Redis
) -> None:
    thread_id = new_thread_id()
    ticket = await tickets.issue(HOLDER, thread_id, seconds=SECONDS)
    (name,) = [key async for key in redis.scan_iter("*:ticket:*")]
    for _ in range(2):  # before it is used, and after
        assert 0 < await redis.ttl(name) <= SECONDS
        held = repr((name, await cast("Any", redis.hgetall(name))))
        assert ticket not in held
        assert thread_id not in held
        await tickets.redeem(ticket, thread_id)
    await redis.delete(name)
    assert await tickets.redeem(ticket, thread_id) is None
