"""A user's streams: so many on all gateways, and each gives its place back, however it ends."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from services.api import stream_leases
from services.api.lenient import Lenient
from services.api.stream_leases import StreamLeases
from shared.keys import streams_of_user
from shared.quotas import Quotas
from shared.redis_client import HASTY, Redis, connect
from shared.settings import Settings
from tests.integration.api.gateways import Client, problem_of, proxied
from tests.integration.api.limited import ask, clients
from tests.integration.api.waiting import eventually
from tests.integration.api.worker import Worker


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
