"""A job that Redis has lost altogether: the worker that runs it brings it back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.orchestrator import second_offer
from services.orchestrator.second_offer import SecondOffer
from services.persister.app import assemble
from services.persister.consumer import make_broker
from shared.commands import RunJob
from shared.postgres import create_engine
from tests.integration.orchestrator.gateway import Event, Gateway, kinds, words
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import LIMITS, Bench, patient

TOKENS = 60
SECONDS_MAX = 5.0
LASTING: dict[str, Any] = {"lease_seconds": 60, "heartbeat_seconds": 0.2}  # nobody takes over


@pytest.fixture(autouse=True)
def _steady(bench: Bench) -> None:
    bench.agent("default", f"fake:tokens={TOKENS},delay_ms=10")


async def lose(gateway: Gateway, command: RunJob, *, thread: bool = True) -> None:
    """Take all from Redis that it knows of a job, and of its thread; groups stay."""
    keys, name = gateway.keys(command.thread_id), command.thread_id
    entry_id = await gateway.entry_of(command)
    pipeline: Any = gateway.redis.pipeline(transaction=True)
    pipeline.delete(keys.job(command.job_id))
    pipeline.xack(keys.commands, "orchestrators", entry_id)
    pipeline.xdel(keys.commands, entry_id)
    pipeline.xtrim(keys.log, maxlen=0)
    pipeline.hdel(keys.thread(name), "active")
    if thread:
        pipeline.delete(keys.thread(name), keys.thread_events(name), keys.thread_queue(name))
    await pipeline.execute()


def check_whole(events: list[Event]) -> None:
    """One attempt, from its beginning to its one end."""
    assert kinds(events) == ["started", "token", "done"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    done = events[-1]
    assert (done["status"], done["attempt"], done["content"]) == ("done", 1, words(1, TOKENS))


async def test_the_worker_brings_back_what_nobody_else_knows(
    bench: Bench, gateway: Gateway, database_url: str
) -> None:
    async with bench.worker(**LASTING, database_url=database_url):
        command = await gateway.ask()
        await gateway.saying(command, tokens=10)
        await lose(gateway, command)
        check_whole(await gateway.done(command, seconds=5))
    records = await gateway.records(command.thread_id)
    assert [record.type for record in records][:3] == [
        "thread.created",
        "message.posted",
        "started",
    ]
    assert await gateway.pending() == 0
    assert await gateway.dead() == []


async def test_a_silent_job_is_brought_back_as_well(
    bench: Bench, gateway: Gateway, database_url: str
) -> None:
    """It appends nothing that could be refused: its heartbeat is told."""
    bench.agent("default", f"fake:tokens={TOKENS},hang_before_first,times=1")
    async with bench.worker(**LASTING, database_url=database_url, limits=patient(LIMITS)):
        command = await gateway.ask()
        await gateway.reached(command, bool)
        await lose(gateway, command)
        check_whole(await gateway.done(command, seconds=5))


async def test_a_thread_that_is_known_is_kept(
    bench: Bench, gateway: Gateway, database_url: str
) -> None:
    async with bench.worker(**LASTING, database_url=database_url):
        command = await gateway.ask()
        await gateway.saying(command, tokens=10)
        await lose(gateway, command, thread=False)
        await gateway.redis.delete(gateway.keys(command.thread_id).thread_events(command.thread_id))

        async def is_over() -> bool:
            job = await gateway.hot.job(command.job_id)
            return job is not None and job.is_over

        await until(is_over)
    records = await gateway.records(command.thread_id)
    assert [record.type for record in records][:2] == ["message.posted", "started"]
    assert records[0].position > 2  # behind what was lost: no position is given out twice


def offer_made(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once a worker has done what it can for a lost job."""
    made, make = asyncio.Event(), SecondOffer.make

    async def told(offer: SecondOffer, command: RunJob) -> None:
        await make(offer, command)
        made.set()

    monkeypatch.setattr(SecondOffer, "make", told)
    return made


async def archived(bench: Bench, gateway: Gateway, command: RunJob, database_url: str) -> None:
    """A persister's work, up to the message at least."""
    settings = bench.settings(database_url=database_url)
    engine = create_engine(database_url, application="test")
    broker = make_broker(settings.required("redis_url"), drain_seconds=5)
    persister = assemble(settings, redis=gateway.redis, broker=broker, engine=engine)

    async def is_archived() -> bool:
        thread = await gateway.hot.thread(command.thread_id)
        return thread is not None and thread.archived >= 3

    try:
        await persister.start()
        await until(is_archived)
    finally:
        await persister.stop()
        await engine.dispose()


async def test_what_the_archive_knows_is_left_to_those_who_restore_it(
    bench: Bench, gateway: Gateway, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.agent("default", "fake:hang_after=5")
    made = offer_made(monkeypatch)
    async with bench.worker(**LASTING, database_url=database_url, limits=patient(LIMITS)):
        command = await gateway.ask()
        await gateway.saying(command, tokens=5)
        await archived(bench, gateway, command, database_url)
        await lose(gateway, command)
        await asyncio.wait_for(made.wait(), SECONDS_MAX)
    assert await gateway.hot.job(command.job_id) is None
    assert await gateway.records(command.thread_id) == []


async def test_an_offer_waits_for_the_archive(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it nobody can tell whether the job is over; it does not wait for ever."""
    monkeypatch.setattr(second_offer, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(second_offer, "OFFER_SECONDS_MAX", 0.5)
    made = offer_made(monkeypatch)
    async with bench.worker(**LASTING):
        command = await gateway.ask()
        await gateway.saying(command, tokens=5)
        await lose(gateway, command)
        await asyncio.wait_for(made.wait(), SECONDS_MAX)
        assert await gateway.hot.job(command.job_id) is None
        assert (await gateway.done(await gateway.ask()))[-1]["status"] == "done"
