"""The right to run a job: kept while it is worked on, gone when it cannot be renewed."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import redis as blocking
from langgraph.runtime import Runtime

from services.orchestrator.graph import context
from services.orchestrator.graph.state import Context, Ports, Question
from services.orchestrator.heartbeat import Heartbeat
from services.orchestrator.job_writer import Stop
from shared.event_log import Append, Appended, EventLog
from shared.keys import ORCHESTRATORS
from tests.integration.orchestrator.gateway import Gateway, kinds, words
from tests.integration.orchestrator.models import Scripted
from tests.integration.orchestrator.test_appender import begun
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import LIMITS, Bench, patient, proxy_to
from tests.support.model_server import ModelServer

LEASE_SECONDS = 0.6
QUICK: dict[str, Any] = {"lease_seconds": LEASE_SECONDS, "heartbeat_seconds": 0.15}
LATE_SECONDS = 1.0  # on a busy machine

log = logging.getLogger(__name__)


async def test_a_heartbeat_keeps_a_job_for_many_leases(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    bench.agent("slow", "fake:tokens=100,delay_ms=25")  # four leases
    async with bench.worker(**QUICK), bench.worker(**QUICK, consumer_name="w2"):
        events = await gateway.done(await gateway.ask(agent="slow"))
    assert kinds(events) == ["started", "token", "done"]
    assert model.statistics.requests == 1


@contextmanager
def thief(redis_url: str, gateway: Gateway) -> Generator[list[bytes]]:
    """Takes over every command whose lease is over, in a thread; what it got."""
    stolen: list[bytes] = []
    ended = threading.Event()
    streams = [gateway.keys(gateway.thread_in(p)).commands for p in range(gateway.partitions)]

    def steal() -> None:
        with blocking.Redis.from_url(redis_url) as client:
            while not ended.wait(0.02):
                for stream in streams:
                    idle_ms = round(LEASE_SECONDS * 1000)
                    reply = client.xautoclaim(stream, ORCHESTRATORS, "thief", idle_ms)
                    stolen.extend(entry_id for entry_id, _ in reply[1])

    thread = threading.Thread(target=steal)
    thread.start()
    try:
        yield stolen
    finally:
        ended.set()
        thread.join()


async def test_a_blocked_event_loop_loses_no_lease(bench: Bench, gateway: Gateway) -> None:
    tool = Scripted(["a", "b"], block_seconds=2 * LEASE_SECONDS)
    async with bench.worker(model=tool, **QUICK):
        with thief(bench.redis_url, gateway) as stolen:
            events = await gateway.done(await gateway.ask())
    assert stolen == []
    assert (events[-1]["attempt"], events[-1]["content"]) == (1, "ab")


async def test_a_node_that_blocks_the_event_loop_for_many_leases_loses_none(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first token: nothing but the heartbeat's thread tells that the worker lives."""

    async def load_context(state: Question, runtime: Runtime[Ports]) -> Context:
        time.sleep(5 * LEASE_SECONDS)  # noqa: ASYNC251 -- what a synchronous tool does
        return await context.load_context(state, runtime)

    monkeypatch.setattr("services.orchestrator.graph.graph.load_context", load_context)
    async with bench.worker(**QUICK):
        with thief(bench.redis_url, gateway) as stolen:
            events = await gateway.done(await gateway.ask())
    assert stolen == []
    assert (kinds(events), events[-1]["attempt"]) == (["started", "token", "done"], 1)


async def test_what_is_said_of_an_attempt_that_has_ended_stops_nothing(
    bench: Bench, gateway: Gateway
) -> None:
    """A renewal under way, while the same worker begins the next attempt of the job."""
    _, lease = await begun(gateway)
    heartbeat = Heartbeat(
        bench.redis_url, gateway.log, consumer="w1", every_seconds=60, lease_seconds=60
    )
    told: list[Stop] = []
    with heartbeat.holding(lease, told.append):
        [held] = heartbeat._held
        assert await gateway.log.release_lease(lease, "w1")
        await asyncio.to_thread(heartbeat._beat, [held])
        await asyncio.sleep(0)
        assert told == [Stop.LOST]
    await asyncio.to_thread(heartbeat._beat, [held])
    await asyncio.sleep(0)
    assert told == [Stop.LOST]


class Replies:
    """What Redis answered to the appends and renewals of each attempt."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.codes: dict[int, list[str]] = {}
        append_many = EventLog.append_many

        async def recorded(log: EventLog, appends: Sequence[Append]) -> list[Appended | Exception]:
            replies = await append_many(log, appends)
            for append, reply in zip(appends, replies, strict=True):
                if isinstance(reply, Appended):
                    self.codes.setdefault(append.lease.attempt, []).append(reply.code)
            return replies

        monkeypatch.setattr(EventLog, "append_many", recorded)


async def test_a_worker_that_cannot_renew_leaves_its_model_and_another_takes_over(
    bench: Bench, gateway: Gateway, model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.agent("default", "fake:tokens=200,delay_ms=15")
    replies = Replies(monkeypatch)
    async with proxy_to(bench.redis_url) as proxy:
        changes: dict[str, Any] = {**QUICK, "redis_url": proxy.url(bench.redis_url)}
        async with bench.worker(**changes):
            command = await gateway.ask()
            await gateway.saying(command, tokens=5)
            async with bench.worker(**QUICK, consumer_name="w2"):
                proxy.black_hole()
                cut_off = time.monotonic()
                await model.statistics.until(lambda seen: seen.aborted == 1)
                seconds = time.monotonic() - cut_off
                await model.statistics.until(lambda seen: seen.open_connections <= 1)  # w2's
                await gateway.saying(command, attempt=2)
                taken_over = time.monotonic() - cut_off
                await asyncio.sleep(max(0.0, cut_off + 2 * LEASE_SECONDS - time.monotonic()))
                proxy.heal()

                async def is_fenced() -> bool:
                    return "FENCED" in replies.codes[1]

                await until(is_fenced)
                events = await gateway.done(command)
            assert await works(gateway)
    log.info("left the model after %.2f s, taken over after %.2f s", seconds, taken_over)
    assert seconds < LEASE_SECONDS + LATE_SECONDS
    assert taken_over < LEASE_SECONDS + LATE_SECONDS
    assert kinds(events) == ["started", "token", "started", "token", "done"]
    assert (events[-1]["attempt"], events[-1]["content"]) == (2, words(1, 200))
    assert set(replies.codes[2]) == {"OK"}
    assert (model.statistics.requests, model.statistics.aborted) == (3, 1)


async def works(gateway: Gateway) -> bool:
    """Whether a new question is answered, at the first attempt."""
    done = (await gateway.done(await gateway.ask(agent="brief")))[-1]
    return (done["status"], done["attempt"]) == ("done", 1)


async def test_a_worker_cut_off_from_redis_lets_go_of_the_model_within_a_lease(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    bench.agent("default", "fake:hang_after=5,times=1")
    async with proxy_to(bench.redis_url) as proxy:
        changes: dict[str, Any] = {**QUICK, "redis_url": proxy.url(bench.redis_url)}
        async with bench.worker(limits=patient(LIMITS), **changes):
            command = await gateway.ask()
            await gateway.saying(command, tokens=5)
            proxy.black_hole()
            cut_off = time.monotonic()
            await model.statistics.until(lambda seen: seen.aborted == 1)
            seconds = time.monotonic() - cut_off
            proxy.heal()
            events = await gateway.done(command)
    log.info("the model was let go after %.2f s, the lease being %g s", seconds, LEASE_SECONDS)
    assert seconds < LEASE_SECONDS + LATE_SECONDS
    assert kinds(events) == ["started", "token", "started", "token", "done"]
    assert (events[-1]["attempt"], events[-1]["content"]) == (2, words(1, 16))


async def test_a_superseded_worker_is_stopped_by_its_heartbeat(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    """While the model is silent nothing is appended that could be fenced."""
    bench.agent("default", "fake:hang_before_first,times=1")
    # w2 must begin before its entry is taken from it as well, also on a busy machine.
    unhurried = {**QUICK, "lease_seconds": 3.0}
    async with bench.worker(limits=patient(LIMITS), **unhurried):
        command = await gateway.ask()
        await gateway.reached(command, lambda events: bool(events))
        entry_id = await gateway.deliver_again(command, "w2")
        begun = await gateway.log.begin_attempt(
            command, entry_id=entry_id, consumer="w2", attempts_max=3, model="m"
        )
        assert begun.lease is not None
        await model.statistics.until(lambda seen: seen.aborted == 1)
        events = await gateway.done(command)  # w2 never renews: its lease runs out
    assert [e["attempt"] for e in events if e["type"] == "started"] == [1, 2, 3]
    assert events[-1]["content"] == words(1, 16)


async def test_a_job_that_crashes_its_worker_every_time_fails_and_is_listed(
    bench: Bench, gateway: Gateway
) -> None:
    broken = Scripted(["said ", "this"], defect=RuntimeError("a defect in a node"))
    async with bench.worker(model=broken, attempts_max=2, **QUICK):
        command = await gateway.ask()
        events = await gateway.done(command)
    assert kinds(events)[:4] == ["started", "token", "started", "token"]
    error, done = events[-2:]
    assert (error["type"], error["code"]) == ("error", "attempts_exhausted")
    assert (done["status"], done["attempt"], done["content"]) == ("failed", 2, "said this")
    [letter] = await gateway.dead()
    assert (letter[b"j"].decode(), letter[b"reason"]) == (command.job_id, b"attempts_exhausted")
    assert await gateway.pending() == 0


async def test_a_job_delivered_again_while_it_runs_here_runs_once(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    bench.agent("default", "fake:tokens=60,delay_ms=10")
    async with bench.worker(lease_seconds=30, heartbeat_seconds=10):
        command = await gateway.ask()
        await gateway.saying(command)
        await gateway.deliver_again(command, "w1", idle_ms=10_000_000)
        events = await gateway.done(command)
    assert (model.statistics.requests, events[-1]["attempt"]) == (1, 1)


async def test_a_job_goes_on_over_cut_connections(bench: Bench, gateway: Gateway) -> None:
    bench.agent("default", "fake:tokens=150,delay_ms=5")
    async with (
        proxy_to(bench.redis_url) as proxy,
        bench.worker(redis_url=proxy.url(bench.redis_url), lease_seconds=5),
    ):
        command = await gateway.ask()
        for tokens in (10, 60, 110):
            await gateway.saying(command, tokens=tokens)
            proxy.cut_all()
        events = await gateway.done(command)
    assert (events[-1]["attempt"], events[-1]["content"]) == (1, words(1, 150))


async def test_a_worker_is_told_apart_from_its_predecessor_of_the_same_name(
    bench: Bench, gateway: Gateway
) -> None:
    """A container keeps its name, and may be back before the lease is over."""
    bench.agent("default", "fake:tokens=30,delay_ms=30")
    async with bench.assembled(**QUICK) as gone:
        await gone.start()
        command = await gateway.ask()
        await gateway.saying(command, tokens=5)
        await gone.stop()  # like a kill: nothing is handed over
    async with bench.worker(**QUICK):
        events = await gateway.done(command)
    assert kinds(events) == ["started", "token", "started", "token", "done"]
    assert events[-1]["content"] == words(1, 30)


async def test_commands_written_before_the_first_worker_are_run(
    bench: Bench, gateway: Gateway
) -> None:
    commands = [await gateway.ask() for _ in range(5)]
    async with bench.worker():
        for command in commands:
            assert (await gateway.done(command))[-1]["status"] == "done"
