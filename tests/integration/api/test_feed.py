"""What a client of a stream sees, and what it leaves behind when it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import AsyncExitStack
from typing import Any
from unittest.mock import patch

import pytest

from services.api import feed, follower
from shared.joint_connection import JointConnection
from shared.redis_client import Redis
from tests.integration.api.gateways import Client, Running, token_for
from tests.integration.api.sse_client import as_seen, seen
from tests.integration.api.waiting import eventually, soon
from tests.integration.api.worker import Attempt, Worker

PING_SECONDS = 0.2
SWEEP_SECONDS = 0.1
STALLING: dict[str, Any] = {"socket_buffer_bytes": 4096}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "PING_SECONDS", PING_SECONDS)
        patch.setattr(feed, "SWEEP_SECONDS", SWEEP_SECONDS)
        yield


def events_of_job(attempt: Attempt) -> str:
    return f"/v1/jobs/{attempt.lease.job_id}/events"


def events_of_thread(attempt: Attempt) -> str:
    return f"/v1/threads/{attempt.lease.thread_id}/events"


async def subscribers(redis: Redis, attempt: Attempt) -> int:
    channel = attempt.worker.keys(attempt.lease.thread_id).thread(attempt.lease.thread_id)
    reply: Any = await redis.execute_command("PUBSUB", "SHARDNUMSUB", channel)
    return reply[1]


async def is_level(gateway: Running) -> None:
    """Every follower has read what there is, and waits for more."""
    await eventually(lambda: all(f.is_level for f in gateway.gateway.feed._followers()))


async def is_listening(gateway: Running, attempt: Attempt) -> None:
    """Speak once, and be heard over a subscription that was confirmed. Needs the sweep to rest."""
    await eventually(lambda: _is(1, subscribers(attempt.worker.redis, attempt)))
    await attempt.say("a")
    watched = {w.thread_id: w for w in gateway.gateway.feed._watched.values()}
    await eventually(lambda: watched[attempt.lease.thread_id].heard)
    await is_level(gateway)


async def say_until_all_stall(gateway: Running, attempts: list[Attempt]) -> None:
    """Speak until no client takes anything more, and no follower buffers or reads anything."""
    followers = gateway.gateway.feed._followers()
    rounds = 0
    for _ in range(1000):
        for attempt in attempts:
            await attempt.say(*["x" * 4000] * 5)
        all_stall = all(f._behind and f._reading is None for f in followers)
        rounds = rounds + 1 if all_stall else 0
        if rounds == 10:
            assert not any(follower._buffer for follower in followers)
            return
    raise AssertionError("somebody still reads")


async def test_viewers_at_different_places_each_see_their_suffix(
    client: Client, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    await attempt.say("a", "b", "c")
    async with AsyncExitStack() as stack:
        seqs = [client.stream_events(events_of_job(attempt), after=n) for n in range(5)]
        by_seq = [await stack.enter_async_context(stream) for stream in seqs]
        positions = [client.stream_events(events_of_thread(attempt), after=n) for n in range(7)]
        by_position = [await stack.enter_async_context(stream) for stream in positions]
        await attempt.say("d", "e")
        await attempt.end()
        records = await worker.records(attempt.lease.thread_id)
        for after, stream in enumerate(by_seq):
            assert seen(await stream.rest()) == as_seen(records[2:][after:], by_seq=True)
            assert stream.ended_cleanly
        for after, stream in enumerate(by_position):
            frames = await stream.take(len(records) - after)
            assert seen(frames) == as_seen(records[after:], by_seq=False)


async def test_a_job_is_seen_from_before_it_begins(client: Client, worker: Worker) -> None:
    accepted = await client.ok("POST", "/v1/jobs", json={"query": "hi"})
    async with client.stream_events(f"/v1/jobs/{accepted['job_id']}/events") as stream:
        attempt = await worker.begin(accepted["job_id"])
        assert [frame.event for frame in await stream.take(1)] == ["started"]
        for text in ("one", "two"):
            await attempt.say(text)
            assert (await stream.take(1))[0].json()["content"] == text
        await attempt.end()
        assert [frame.event for frame in await stream.rest()] == ["done"]


async def test_the_answer_to_a_post_may_be_the_stream(client: Client, worker: Worker) -> None:
    body = {"query": "hi", "stream": True}
    async with client.stream_events("/v1/jobs", method="POST", json=body) as stream:
        job_id = stream.response.headers["Location"].rpartition("/")[2]
        assert stream.response.headers["Cache-Control"] == "no-store"
        await worker.answer(job_id)
        events = [frame.event for frame in await stream.rest()]
    assert events == ["started", "token", "token", "done"]


async def test_the_header_of_a_reconnecting_browser_beats_the_query(
    client: Client, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    await attempt.say("a", "b", "c")
    await attempt.end()
    path = f"{events_of_job(attempt)}?after=1"
    async with client.stream_events(path, after=3) as stream:
        assert [frame.cursor for frame in await stream.rest()] == [4, 5]
    async with client.stream_events(path) as stream:
        assert [frame.cursor for frame in await stream.rest()] == [2, 3, 4, 5]


async def test_a_second_attempt_is_part_of_the_stream(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    await attempt.say("never min")
    async with client.stream_events(events_of_job(attempt)) as stream:
        await stream.take(2)
        attempt = await worker.begin_again(attempt)
        await attempt.say("here it is")
        await attempt.end()
        frames = await stream.rest()
    events = [(frame.event, frame.json()["attempt"]) for frame in frames]
    assert events == [("started", 2), ("token", 2), ("done", 2)]


async def test_silence_is_filled_with_comments(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    async with client.stream_events(events_of_job(attempt)) as stream:
        await stream.take(1)
        for _ in range(3):
            frame = await soon(stream.next_frame())
            assert frame is not None
            assert frame.comment == "ping"


async def test_a_publish_that_nobody_heard_is_found(
    gateway: Running, client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = await worker.ask(client)
    async with client.stream_events(events_of_job(attempt)) as stream:
        with monkeypatch.context() as patch:
            patch.setattr(feed.Feed, "_sweep", _no_sweep)
            await is_listening(gateway, attempt)
            await attempt.say("b", silently=True)
            await attempt.say("c")
            assert [frame.cursor for frame in await stream.take(4)] == [1, 2, 3, 4]
            await is_level(gateway)
            await attempt.end(silently=True)
        assert [frame.cursor for frame in await stream.rest()] == [5]


async def test_a_viewer_who_knows_more_does_not_hide_what_another_misses(
    gateway: Running, client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = await worker.ask(client)
    async with client.stream_events(events_of_job(attempt)) as stream:
        with monkeypatch.context() as patch:
            patch.setattr(feed.Feed, "_sweep", _no_sweep)
            await is_listening(gateway, attempt)
            await stream.take(2)
            await attempt.say("lost", silently=True)
            async with client.stream_events(events_of_job(attempt)) as other:
                assert [frame.cursor for frame in await other.take(3)] == [1, 2, 3]
                await is_level(gateway)
                patch.undo()
                assert [frame.cursor for frame in await stream.take(1)] == [3]


async def _no_sweep(_: feed.Feed) -> None:
    """As if nobody looked."""


async def test_a_client_that_stalls_reads_the_rest_from_the_stream(
    gateway: Running, client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "BUFFER_BYTES_MAX", 10_000)
    attempt = await worker.ask(client)
    async with client.stream_events(events_of_job(attempt), **STALLING) as stream:
        await stream.take(1)
        await is_level(gateway)
        await say_until_all_stall(gateway, [attempt])
        await attempt.end()
        frames = await stream.rest()
    records = await worker.records(attempt.lease.thread_id)
    assert seen(frames) == as_seen(records[3:], by_seq=True)


@pytest.mark.parametrize("stalling", [False, True])
async def test_clients_that_vanish_leave_nothing_behind(
    gateway: Running,
    client: Client,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    stalling: bool,
) -> None:
    monkeypatch.setattr(follower, "BUFFER_BYTES_MAX", 10_000)
    attempts = [await worker.ask(client) for _ in range(3)]
    paths = [path(a) for a in attempts for path in (events_of_job, events_of_thread)]
    async with AsyncExitStack() as stack:
        for path in paths * 3:
            stream = client.stream_events(path, **(STALLING if stalling else {}))
            await stack.enter_async_context(stream)
            await stream.take(1)
        assert gateway.gateway.feed.follower_count == 18
        for attempt in attempts:
            await eventually(lambda a=attempt: _is(1, subscribers(worker.redis, a)))
        if stalling:
            await say_until_all_stall(gateway, attempts)
    await eventually(lambda: gateway.gateway.feed.follower_count == 0)
    for attempt in attempts:
        await eventually(lambda a=attempt: _is(0, subscribers(worker.redis, a)))


async def _is(number: int, counted: Any) -> bool:
    return await counted == number


async def test_a_client_that_vanishes_amid_a_long_replay_stops_it(
    gateway: Running, client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = await worker.ask(client)
    for _ in range(40):
        await attempt.say(*["x" * 100] * 100)
    reads = 0
    behind = follower.ThreadStream.behind

    async def counted(*args: Any, **more: Any) -> Any:
        nonlocal reads
        reads += 1
        return await behind(*args, **more)

    monkeypatch.setattr(follower.ThreadStream, "behind", counted)
    async with client.stream_events(events_of_job(attempt), **STALLING) as stream:
        await stream.take(1)
    await eventually(lambda: gateway.gateway.feed.follower_count == 0)
    assert reads < 8


async def test_a_stream_ends_with_its_token(gateway: Running, worker: Worker, user: str) -> None:
    async with gateway.client(user) as client:
        attempt = await worker.ask(client)
    async with gateway.client(None) as client:
        client.headers["Authorization"] = f"Bearer {token_for(user, seconds=1.5)}"
        async with client.stream_events(events_of_job(attempt)) as stream:
            frames = await soon(stream.rest())
        assert [frame.event for frame in frames] == ["started", "reconnect"]
        assert stream.ended_cleanly


async def test_a_publish_that_is_none_of_ours_harms_nobody(
    client: Client, worker: Worker, gateway: Running
) -> None:
    attempt = await worker.ask(client)
    channel = worker.keys(attempt.lease.thread_id).thread(attempt.lease.thread_id)
    give_up = JointConnection.give_up
    with patch.object(JointConnection, "give_up", autospec=True, side_effect=give_up) as lost:
        async with client.stream_events(events_of_job(attempt)) as stream:
            await stream.take(1)
            await is_level(gateway)
            await worker.redis.spublish(channel, "nonsense")
            await attempt.say("sense")
            assert (await stream.take(1))[0].json()["content"] == "sense"
    lost.assert_not_called()


async def test_subscriptions_that_come_and_go_at_once_are_right_in_the_end(
    gateway: Running, client: Client, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    thread_id = attempt.lease.thread_id
    for _ in range(50):
        with gateway.gateway.feed.follow(thread_id, after=0):
            await asyncio.sleep(0)
    await eventually(lambda: _is(0, subscribers(worker.redis, attempt)))
    with gateway.gateway.feed.follow(thread_id, after=3) as follower:
        await eventually(lambda: _is(1, subscribers(worker.redis, attempt)))
        await attempt.say("heard")
        assert [record.seq for record in await soon(follower.next())] == [2]
