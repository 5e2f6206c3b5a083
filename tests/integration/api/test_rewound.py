"""Redis lost its tail, and others may write there now: nobody goes on behind what is gone.

What is lost is taken out of Redis by hand, as a restart without the last second of its log does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.api import feed, follower
from shared import channels
from shared.codec import Record
from shared.event_log import Append, NumberedEvent
from shared.ids import new_job_id, new_thread_id
from shared.keys import PartitionKeys
from tests.integration.api.gateways import PARTITIONS, Client, Running, problem_of
from tests.integration.api.sse_client import Stream, as_seen, seen
from tests.integration.api.test_feed_losses import kill_subscriptions
from tests.integration.api.waiting import eventually, soon
from tests.integration.api.worker import Attempt, Worker

REWOUND_SECONDS_MAX = 0.4


@pytest.fixture(scope="module", autouse=True)
def quick() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "SWEEP_SECONDS", 0.1)
        patch.setattr(channels, "RECONNECT_SECONDS", 0.02)
        patch.setattr(follower, "RETRY_SECONDS", 0.05)
        yield


async def lose(attempt: Attempt, *, events: int) -> list[Record]:
    """Take the last events of a thread out of Redis."""
    worker, lease = attempt.worker, attempt.lease
    keys = worker.keys(lease.thread_id)
    name = keys.thread_events(lease.thread_id)
    records = await worker.records(lease.thread_id)
    kept, lost = records[:-events], records[-events:]
    attempt.seq -= sum(record.stream == lease.job_id for record in lost)
    pipeline = worker.redis.pipeline()
    pipeline.delete(name)  # and its last id: Redis would refuse to give one out again
    for r in kept:
        fields: Any = {"j": r.stream, "s": r.seq, "t": r.type, "d": r.data}
        pipeline.xadd(name, fields, id=f"{r.position}-0")
    pipeline.hset(keys.thread(lease.thread_id), "position", str(kept[-1].position))
    pipeline.hset(keys.job(lease.job_id), "seq", str(attempt.seq))
    await pipeline.execute()
    return lost


def streams_of(client: Client, attempt: Attempt) -> list[Stream]:
    return [
        client.stream_events(f"/v1/jobs/{attempt.lease.job_id}/events"),
        client.stream_events(f"/v1/threads/{attempt.lease.thread_id}/events"),
    ]


@asynccontextmanager
async def both(client: Client, attempt: Attempt) -> AsyncGenerator[list[tuple[Stream, int]]]:
    """A viewer of the job and one of the thread, level, and how many events each was given."""
    by_seq, by_position = streams_of(client, attempt)
    async with by_seq as one, by_position as other:
        count = attempt.seq
        await one.take(count)
        await other.take(count + 2)
        yield [(one, count), (other, count + 2)]


async def is_level(gateway: Running) -> None:
    await eventually(lambda: all(f.is_level for f in gateway.gateway.feed._followers()))


async def test_who_was_given_what_is_gone_does_not_go_on_behind_it(
    gateway: Running, client: Client, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    await attempt.say(*"abcd")
    async with both(client, attempt) as viewers:
        await is_level(gateway)
        await lose(attempt, events=3)
        await attempt.say(*"vwxyz")  # where b, c and d stood, and behind
        await kill_subscriptions(worker.redis)
        for stream, _ in viewers:
            (notice,) = await soon(stream.rest())
            assert (notice.event, notice.id) == ("reconnect", None)
            assert stream.ended_cleanly
    await eventually(lambda: gateway.gateway.feed.follower_count == 0)


async def test_who_was_given_what_is_gone_for_good_is_sent_away(
    gateway: Running, client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "REWOUND_SECONDS_MAX", REWOUND_SECONDS_MAX)
    attempt = await worker.ask(client)
    await attempt.say(*"abcd")
    async with both(client, attempt) as viewers:
        await is_level(gateway)
        await lose(attempt, events=3)
        await kill_subscriptions(worker.redis)
        for stream, count in viewers:
            assert [frame.event for frame in await soon(stream.rest())] == ["reconnect"]
            ahead = await client.problem("GET", stream.url, params={"after": str(count)})
            assert ahead == (400, "cursor_ahead")


async def test_what_comes_back_is_gone_on_with(
    gateway: Running, client: Client, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    await attempt.say(*"abcd")
    async with both(client, attempt) as viewers:
        await is_level(gateway)
        lost = await lose(attempt, events=3)
        await kill_subscriptions(worker.redis)
        await eventually(lambda: _waits(gateway, 2))
        await repeat(attempt, lost)
        await attempt.say("e")
        await attempt.end()
        records = await worker.records(attempt.lease.thread_id)
        (one, _), (other, _) = viewers
        assert seen(await one.rest()) == as_seen(records[-2:], by_seq=True)
        assert seen(await other.take(2)) == as_seen(records[-2:], by_seq=False)


async def test_a_job_whose_positions_moved_goes_on_at_its_seq(
    gateway: Running, client: Client, worker: Worker
) -> None:
    """A message of the lost second stood between its events, and is gone."""
    attempt = await worker.ask(client)
    thread_id = attempt.lease.thread_id
    await attempt.say("a")
    await client.ok("POST", f"/v1/threads/{thread_id}/messages", json={"content": "lost"})
    await attempt.say("b")
    path = f"/v1/jobs/{attempt.lease.job_id}/events"
    async with client.stream_events(path) as stream:
        frames = await stream.take(3)
        await is_level(gateway)
        lost = await lose(attempt, events=2)
        await repeat(attempt, [record for record in lost if record.stream != thread_id])
        await attempt.say("c")
        await kill_subscriptions(worker.redis)
        assert [frame.event for frame in await soon(stream.rest())] == ["reconnect"]
    await attempt.end()
    async with client.stream_events(path, after=3) as stream:
        frames += await stream.rest()
    mine = [r for r in await worker.records(thread_id) if r.stream == attempt.lease.job_id]
    assert seen(frames) == as_seen(mine, by_seq=True)


async def test_a_client_that_comes_before_what_was_lost_is_told_to_wait(
    client: Client, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    meta = PartitionKeys(worker.keys(attempt.lease.thread_id).partition).meta
    await worker.redis.hdel(meta, "verified")
    try:
        for stream in streams_of(client, attempt):
            response = await client.get(stream.url, params={"after": "4"})
            assert problem_of(response) == (503, "log_unavailable")
            assert response.headers["Retry-After"] == "1"
            async with stream:
                await stream.take(1)
    finally:
        await worker.redis.hset(meta, "verified", "1")
    for stream in streams_of(client, attempt):
        ahead = await client.problem("GET", stream.url, params={"after": "4"})
        assert ahead == (400, "cursor_ahead")


async def test_what_nobody_knows_for_the_moment_is_not_denied(
    client: Client, worker: Worker
) -> None:
    """It may be in a persister's hand."""
    job_id, thread_id = new_job_id(0), new_thread_id()
    metas = {PartitionKeys(0).meta, worker.keys(thread_id).meta}
    paths = [f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/events", f"/v1/threads/{thread_id}"]
    for meta in metas:
        await worker.redis.hdel(meta, "verified")
    try:
        for path in paths:
            assert await client.problem("GET", path) == (503, "log_unavailable")
        elsewhere = f"/v1/jobs/{new_job_id(PARTITIONS)}"
        assert await client.problem("GET", elsewhere) == (404, "not_found")
    finally:
        for meta in metas:
            await worker.redis.hset(meta, "verified", "1")
    for path in paths:
        assert await client.problem("GET", path) == (404, "not_found")


async def test_in_doubt_anothers_thing_is_no_thing_either(
    gateway: Running, client: Client, worker: Worker
) -> None:
    lease = (await worker.ask(client)).lease
    recall = worker.keys(lease.thread_id).recall
    paths = [f"/v1/jobs/{lease.job_id}", f"/v1/threads/{lease.thread_id}"]
    async with gateway.client("stranger") as stranger:
        await worker.redis.set(recall, 1)
        for path in paths:
            assert await stranger.problem("GET", path) == (503, "log_unavailable")
            assert (await client.get(path)).status_code == 200
        await worker.redis.delete(recall)
        for path in paths:
            assert await stranger.problem("GET", path) == (404, "not_found")


async def test_nor_while_a_worker_may_offer_it_again(client: Client, worker: Worker) -> None:
    thread_id = new_thread_id()
    recall = worker.keys(thread_id).recall
    await worker.redis.set(recall, 1)
    assert await client.problem("GET", f"/v1/threads/{thread_id}") == (503, "log_unavailable")
    await worker.redis.delete(recall)
    assert await client.problem("GET", f"/v1/threads/{thread_id}") == (404, "not_found")


async def repeat(attempt: Attempt, lost: list[Record]) -> None:
    """What a worker does with its buffer: say again what Redis no longer knows."""
    numbered = [NumberedEvent(record.seq, record.type, record.data) for record in lost]
    appended = await attempt.worker.log.append_events(Append(attempt.lease, numbered))
    assert appended.code == "OK", appended
    attempt.seq = appended.last_seq


def _waits(gateway: Running, count: int) -> bool:
    """Whether so many followers miss the record at their cursor."""
    followers = gateway.gateway.feed._followers()
    return sum(f._missing_since is not None for f in followers) == count
