"""The appender on a real log that is away, forgets to answer, or has lost its newest events."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.orchestrator import appender as appending
from services.orchestrator import job_writer, turns
from services.orchestrator.appender import Appender
from services.orchestrator.job_writer import JobWriter, LeaseLost, Stop
from shared.cancellation import end_tasks
from shared.commands import RunJob
from shared.errors import LogUnavailable
from shared.event_log import Append, Appended, EventLog, Lease
from tests.integration.orchestrator.gateway import Gateway, deltas
from tests.integration.orchestrator.waiting import until

JOBS = 3
PIECES = 120
SEEDS = range(20)


async def begun(gateway: Gateway, *, consumer: str = "w1") -> tuple[RunJob, Lease]:
    """A posted, delivered and begun job."""
    command, entry_id = await gateway.delivered(consumer)
    begun = await gateway.log.begin_attempt(
        command, entry_id=entry_id, consumer=consumer, attempts_max=3, model="m"
    )
    assert begun.lease is not None
    return command, begun.lease


@asynccontextmanager
async def appender_on(log: EventLog) -> AsyncGenerator[Appender]:
    """An appender at work; should it break, so does what is done with it."""
    appender = Appender(log)
    async with asyncio.TaskGroup() as tasks:
        loop = tasks.create_task(appender.run())
        try:
            yield appender
        finally:
            await end_tasks([loop], seconds_max=1)


async def finish(writer: JobWriter, command: RunJob) -> None:
    await writer.finish(
        "done", content=writer.text, message_id=command.reply_id, latency_ms=0, usage=None
    )


async def is_lost(writer: JobWriter) -> None:
    """The writer learns from Redis that it may write no more."""
    with pytest.raises(LeaseLost):
        async with asyncio.timeout(2):
            await writer.flushed()


class BadLog(EventLog):
    """Every round may fail before it arrives, lose its replies, or find the log's tail gone."""

    def __init__(self, gateway: Gateway, chance: random.Random) -> None:
        super().__init__(gateway.redis, gateway.partitions)
        self._gateway, self._chance = gateway, chance
        self.met: set[str] = set()

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | Exception]:
        fate = self._chance.choice(("fine", "fine", "away", "reply lost", "some", "tail lost"))
        self.met.add(fate)
        if fate == "away":
            raise LogUnavailable()
        if fate == "tail lost":
            await self._lose_tail(self._chance.choice(appends).lease)
        replies = await super().append_many(appends)
        if fate == "reply lost":
            raise LogUnavailable()
        if fate == "some":
            return [self._chance.choice((reply, LogUnavailable())) for reply in replies]
        return replies

    async def _lose_tail(self, lease: Lease) -> None:
        """Forget the newest events of a job, as a server does that was restored from a copy."""
        redis: Any = self._gateway.redis
        keys = lease.keys
        stream, thread = keys.thread_events(lease.thread_id), keys.thread(lease.thread_id)
        seq = int(await redis.hget(keys.job(lease.job_id), "seq"))
        position = int(await redis.hget(thread, "position"))
        gone = self._chance.randint(0, seq - lease.seq)  # the writer's own, not `started`
        kept = position - gone
        if await redis.hget(keys.job(lease.job_id), "status") != b"running" or not gone:
            return
        entries = await redis.xrange(stream, max=f"{kept}-0")
        await redis.delete(stream)  # a stream remembers the highest id it ever had
        for entry_id, fields in entries:
            await redis.xadd(stream, fields, id=entry_id)
        await redis.hset(thread, "position", kept)
        await redis.hset(keys.job(lease.job_id), "seq", seq - gone)


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_stream_is_whole_whatever_the_log_does(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(appending, "RETRY_SECONDS", 0.002)
    monkeypatch.setattr(job_writer, "EVENTS_PER_APPEND_MAX", 5)
    monkeypatch.setattr(job_writer, "PENDING_CHARS_MAX", 40)
    chance = random.Random(seed)
    log = BadLog(gateway, chance)

    async def speak(writer: JobWriter) -> None:
        for number in range(PIECES):
            writer.token(f"{number} " * chance.randint(1, 3), 1)
            await writer.room()
            if chance.random() < 0.3:
                await asyncio.sleep(chance.choice((0, 0, 0.001, 0.003)))

    async with appender_on(log) as appender:
        jobs = [await begun(gateway) for _ in range(JOBS)]
        writers = [appender.open(lease, stop=lambda _: None) for _, lease in jobs]
        await asyncio.gather(*(speak(writer) for writer in writers))
        for (command, _), writer in zip(jobs, writers, strict=True):
            await finish(writer, command)
    for (command, _), writer in zip(jobs, writers, strict=True):
        events = await gateway.done(command)
        assert events[-1]["content"] == writer.text
        assert deltas(events, 1) == PIECES
    assert {"away", "reply lost", "some", "tail lost"} <= log.met


async def test_a_busy_worker_writes_two_pieces_as_one_event_and_each_first_one_at_once(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "BUSY_PIECES_PER_SECOND", 0)
    monkeypatch.setattr(job_writer, "HOLD_SECONDS", 60.0)  # any two pieces are near each other
    monkeypatch.setattr(turns, "HOLD_SECONDS", 60.0)
    async with appender_on(gateway.log) as appender:
        command, lease = await begun(gateway)
        writer = appender.open(lease, stop=lambda _: None)
        writer.token("one ", 1)
        await writer.flushed()
        for pair in range(3):
            writer.token(f"two-{pair} ", 1)
            for _ in range(5):
                await asyncio.sleep(0)  # whoever would take it, takes it
            writer.token(f"three-{pair} ", 1)
            await writer.flushed()
        writer.token("last", 1)
        await finish(writer, command)
    events = await gateway.done(command)
    assert [event["deltas"] for event in events if event["type"] == "token"] == [1, 2, 2, 2, 1]


class GatedLog(EventLog):
    """A round trip takes until the test says so. ``calls`` are the rounds asked for."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway.redis, gateway.partitions)
        self.calls: list[Sequence[Append]] = []
        self.gate = asyncio.Semaphore(0)

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | Exception]:
        self.calls.append(appends)
        await self.gate.acquire()
        return await super().append_many(appends)

    async def called(self, times: int) -> None:
        async def was_called() -> bool:
            return len(self.calls) >= times

        await until(was_called)


async def test_the_first_token_goes_at_once_and_what_waits_becomes_one_event(
    gateway: Gateway,
) -> None:
    log = GatedLog(gateway)
    async with appender_on(log) as appender:
        command, lease = await begun(gateway)
        writer = appender.open(lease, stop=lambda _: None)
        writer.token("one ", 1)
        await log.called(1)
        for text, pieces in (("two ", 1), ("three four ", 2), ("five", 1)):
            writer.token(text, pieces)
        log.gate.release()
        await log.called(2)
        for _ in range(2):
            log.gate.release()
        await finish(writer, command)
    assert [len(appends[0].events) for appends in log.calls] == [1, 1, 1]
    _, first, second, done = await gateway.done(command)
    assert (first["content"], first["deltas"]) == ("one ", 1)
    assert (second["content"], second["deltas"]) == ("two three four five", 4)
    assert done["content"] == "one two three four five"


async def test_a_round_trip_carries_every_job_that_waits(gateway: Gateway) -> None:
    log = GatedLog(gateway)
    async with appender_on(log) as appender:
        jobs = [await begun(gateway) for _ in range(5)]
        writers = [appender.open(lease, stop=lambda _: None) for _, lease in jobs]
        for writer in writers:
            writer.token("x", 1)
        await log.called(1)
        log.gate.release()
        for writer in writers:
            await writer.flushed()
    assert [len(appends) for appends in log.calls] == [5]


async def test_a_job_whose_text_waits_holds_its_model_back(gateway: Gateway) -> None:
    log = GatedLog(gateway)
    async with appender_on(log) as appender:
        _, lease = await begun(gateway)
        writer = appender.open(lease, stop=lambda _: None)
        writer.token("first", 1)
        await log.called(1)
        writer.token("x" * job_writer.PENDING_CHARS_MAX, 1)
        async with asyncio.timeout(1):
            await writer.room()
        writer.token("x", 1)
        room = asyncio.create_task(writer.room())
        done, _ = await asyncio.wait({room}, timeout=0.05)
        assert not done
        log.gate.release()
        await room


async def test_a_superseded_job_is_told_to_stop_and_writes_no_more(gateway: Gateway) -> None:
    reasons: list[Stop] = []
    async with appender_on(gateway.log) as appender:
        _, lease = await begun(gateway)
        writer = appender.open(lease, stop=reasons.append)
        assert await gateway.log.release_lease(lease, "w1")
        writer.token("x", 1)
        await is_lost(writer)
        with pytest.raises(LeaseLost):
            await writer.room()
        writer.token("y", 1)
        assert writer.take() is None
    assert reasons == [Stop.LOST]


async def test_an_attempt_of_which_redis_has_nothing_is_lost(gateway: Gateway) -> None:
    async with appender_on(gateway.log) as appender:
        _, lease = await begun(gateway)
        writer = appender.open(lease, stop=lambda _: None)
        await gateway.redis.hset(lease.keys.job(lease.job_id), "seq", lease.seq - 1)
        writer.token("x", 1)
        await is_lost(writer)


async def test_an_append_that_cannot_succeed_costs_one_job_its_attempt(gateway: Gateway) -> None:
    reasons: list[Stop] = []
    async with appender_on(gateway.log) as appender:
        broken_command, broken_lease = await begun(gateway)
        command, lease = await begun(gateway)
        stream = gateway.keys(broken_command.thread_id).thread_events(broken_command.thread_id)
        await gateway.redis.delete(stream)
        await gateway.redis.set(stream, "not a stream")
        broken = appender.open(broken_lease, stop=reasons.append)
        sound = appender.open(lease, stop=reasons.append)
        broken.token("x", 1)
        await is_lost(broken)
        async with asyncio.timeout(appending.RETRY_SECONDS * 4):
            for _ in range(50):  # a pause in every round would take far longer
                sound.token("x", 1)
                await sound.flushed()
        await finish(sound, command)
        await gateway.redis.delete(stream)
    assert reasons == [Stop.LOST]


async def test_a_job_whose_append_is_put_off_does_not_ask_again_at_once(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "RETRY_SECONDS", 0.1)
    log = GatedLog(gateway)
    log.gate = asyncio.Semaphore(1_000_000)  # open
    async with appender_on(log) as appender:
        _, lease = await begun(gateway)
        writer = appender.open(lease, stop=lambda _: None)
        await gateway.redis.config_set("min-replicas-to-write", 1)
        since = time.monotonic()
        try:
            for _ in range(50):
                writer.token("x", 1)
                await asyncio.sleep(0.005)
        finally:
            await gateway.redis.config_set("min-replicas-to-write", 0)
        await writer.flushed()
        seconds = time.monotonic() - since
    assert len(log.calls) <= 3 + seconds / appending.RETRY_SECONDS
