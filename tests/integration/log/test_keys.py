"""claim_key: of many requests with one key, the first decides what they make."""

from __future__ import annotations

import pytest

from shared.errors import IdempotencyMismatch
from shared.idempotency import Claims, Idempotency, Plan
from shared.ids import new_thread_id
from tests.support.log_server import LogServer, RepeatingRedis

KEY = Idempotency("key", "body")


async def claim(
    server: LogServer, user: str = "alice", key: Idempotency = KEY
) -> tuple[Plan, Plan]:
    """The plan of a request, and the one it is to follow."""
    mine = Plan.new(new_thread_id(), server.partitions)
    return mine, await Claims(server.redis, server.partitions).claim(user, key, mine)


async def test_the_first_request_decides(server: LogServer) -> None:
    mine, first = await claim(server)
    assert first == mine
    for _ in range(2):
        _, again = await claim(server)
        assert again == first


async def test_claimed_twice_by_one_request_it_is_still_its_own(
    server: LogServer, redis: RepeatingRedis
) -> None:
    redis.repeats = True
    mine, first = await claim(server)
    assert first == mine


async def test_another_request_is_refused(server: LogServer) -> None:
    _, first = await claim(server)
    with pytest.raises(IdempotencyMismatch):
        await claim(server, key=Idempotency("key", "other body"))
    assert (await claim(server))[1] == first


async def test_keys_of_two_users_do_not_meet(server: LogServer) -> None:
    """Nor do a user and a key that read the same when joined."""
    _, one = await claim(server, "a:b", Idempotency("c", "body"))
    _, other = await claim(server, "a", Idempotency("b:c", "body"))
    assert one != other


async def test_a_key_is_remembered_for_a_day(server: LogServer) -> None:
    await claim(server)
    name = server.keys("").idempotency("alice", "key")
    assert 86_000 < await server.redis.ttl(name) <= 86_400
