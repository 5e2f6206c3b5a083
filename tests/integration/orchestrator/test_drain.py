"""A worker that leaves: what ends by itself, what is handed over, and what others get at once.

No lease runs out in these tests: a job that moves has been given.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.orchestrator.app import HAND_OVER_SECONDS_MAX, STOP_SECONDS_MAX, Orchestrator
from services.orchestrator.heartbeat import Heartbeat
from shared.cancellation import end_tasks
from shared.commands import RunJob
from tests.integration.orchestrator.gateway import Gateway, kinds, words
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import LIMITS, Bench, patient
from tests.support.model_server import ModelServer

LASTING: dict[str, Any] = {"lease_seconds": 60, "heartbeat_seconds": 20}
PAUSE_SECONDS_MAX = 1.0
TOKENS = 60
STEADY = f"fake:tokens={TOKENS},delay_ms=10"

log = logging.getLogger(__name__)


@asynccontextmanager
async def draining(worker: Orchestrator) -> AsyncGenerator[asyncio.Task[None]]:
    """The worker's drain under way; cut short if the test does not wait for it."""
    drain = asyncio.create_task(worker.drain())
    try:
        yield drain
    finally:
        await end_tasks([drain], seconds_max=1)


async def test_what_runs_may_end_and_nothing_new_is_taken(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    bench.agent("default", STEADY)
    async with bench.worker(**LASTING) as leaving:
        running = await gateway.ask()
        await gateway.saying(running)
        async with draining(leaving) as drain:

            async def is_red() -> bool:
                return not await leaving.is_ready()

            await until(is_red)
            late = await gateway.ask()
            await drain
        assert (await gateway.job(late)).status == "queued"
        [*_, done] = await gateway.events(running)
    assert (done["status"], done["attempt"], done["content"]) == ("done", 1, words(1, TOKENS))
    assert model.statistics.aborted == 0
    assert await gateway.pending() == 0


async def test_a_job_that_hangs_is_handed_over_before_the_drain_is_over(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    bench.agent("default", "fake:hang_after=5,times=1")
    wait_seconds = 0.5
    drain_seconds = wait_seconds + HAND_OVER_SECONDS_MAX + STOP_SECONDS_MAX
    changes: dict[str, Any] = {**LASTING, "drain_seconds": drain_seconds}
    async with bench.worker(limits=patient(LIMITS), **changes) as leaving:
        command = await gateway.ask()
        await gateway.saying(command, tokens=5)
        async with bench.worker(**LASTING, consumer_name="w2"), draining(leaving) as drain:
            since = time.monotonic()
            await gateway.saying(command, attempt=2)
            seconds = time.monotonic() - since
            await drain
            left = time.monotonic() - since
            events = await gateway.done(command)
    log.info("handed over after %.2f s, gone after %.2f of %g s", seconds, left, drain_seconds)
    assert wait_seconds - 0.1 < seconds < wait_seconds + PAUSE_SECONDS_MAX
    assert left < wait_seconds + HAND_OVER_SECONDS_MAX
    assert kinds(events) == ["started", "token", "started", "token", "done"]
    assert model.statistics.aborted == 1


async def test_who_is_in_a_hurry_hands_over_at_once(bench: Bench, gateway: Gateway) -> None:
    bench.agent("default", "fake:tokens=100,delay_ms=50")
    async with bench.worker(**LASTING) as leaving:
        command = await gateway.ask()
        await gateway.saying(command, tokens=5)
        async with bench.worker(**LASTING, consumer_name="w2"), draining(leaving) as drain:
            leaving.hurry()
            since = time.monotonic()
            await gateway.saying(command, attempt=2)
            assert time.monotonic() - since < PAUSE_SECONDS_MAX
            await drain


async def test_a_worker_that_has_failed_hands_over_at_once(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can promise nobody that a job will end here."""
    bench.agent("default", "fake:tokens=100,delay_ms=50")
    async with bench.worker(**LASTING) as leaving:
        command = await gateway.ask()
        await gateway.saying(command, tokens=5)
        with monkeypatch.context() as patch:
            patch.setattr(Heartbeat, "is_alive", False)
            async with draining(leaving) as drain, asyncio.timeout(PAUSE_SECONDS_MAX):
                await drain
        async with bench.worker(**LASTING, consumer_name="w2"):
            await gateway.saying(command, attempt=2)


async def test_what_was_delivered_and_not_begun_does_not_wait_for_what_runs(
    bench: Bench, gateway: Gateway
) -> None:
    """A read that was cut off may have been given an entry: no reader ever hears of it again."""
    bench.agent("steady", "fake:tokens=100,delay_ms=50")
    stranded, _ = await gateway.delivered("w1")
    async with bench.worker(**LASTING) as leaving:
        beside = gateway.thread_in(gateway.keys(stranded.thread_id).partition)
        running = await gateway.ask(agent="steady", thread_id=beside)
        await gateway.saying(running)
        async with bench.worker(**LASTING, consumer_name="w2"), draining(leaving) as drain:
            assert (await gateway.done(stranded, seconds=1))[-1]["attempt"] == 1
            assert (await gateway.job(running)).status == "running"
            await drain
            assert (await gateway.done(running))[-1]["attempt"] == 1


async def leave(bench: Bench, gateway: Gateway, command: RunJob, *, attempt: int) -> None:
    """A worker begins the job, says something and leaves."""
    changes: dict[str, Any] = {**LASTING, "attempts_max": 1, "consumer_name": f"w{attempt}"}
    async with bench.worker(limits=patient(LIMITS), **changes) as leaving:
        await gateway.saying(command, tokens=5, attempt=attempt)
        leaving.hurry()
        await leaving.drain()


async def test_a_rolling_restart_uses_no_attempt_up(bench: Bench, gateway: Gateway) -> None:
    bench.agent("default", "fake:hang_after=5,times=3")
    command = await gateway.ask()
    for attempt in (1, 2, 3):
        await leave(bench, gateway, command, attempt=attempt)
    async with bench.worker(**LASTING, attempts_max=1, consumer_name="w4"):
        done = (await gateway.done(command))[-1]
    assert (done["status"], done["attempt"]) == ("done", 4)


async def test_an_answer_that_breaks_off_after_a_hand_over_begins_again(
    bench: Bench, gateway: Gateway
) -> None:
    bench.agent("default", "fake:hang_after=5")
    command = await gateway.ask()
    await leave(bench, gateway, command, attempt=1)
    bench.agent("default", "fake:cut_after=7,times=1")
    async with bench.worker(**LASTING, attempts_max=2, consumer_name="w2"):
        done = (await gateway.done(command))[-1]
    assert (done["status"], done["attempt"]) == ("done", 3)
