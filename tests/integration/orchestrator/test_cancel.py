"""Cancel, at every moment of a job's life: one end, and what was said is kept."""

from __future__ import annotations

import logging
import time
from typing import Any

from shared.keys import PartitionKeys
from tests.integration.orchestrator.gateway import Gateway, kinds, words
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import LIMITS, Bench, patient
from tests.support.model_server import ModelServer

ABORT_SECONDS_MAX = 0.5  # 0.2 is promised, and hundredths are seen on a quiet machine
QUICK: dict[str, Any] = {"lease_seconds": 0.9, "heartbeat_seconds": 0.1}

log = logging.getLogger(__name__)


async def test_a_job_that_nobody_has_begun_ends_on_the_spot(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    command = await gateway.ask()
    assert await gateway.cancel(command) == "cancelled"
    async with bench.worker():
        other = await gateway.ask()
        await gateway.done(other)
    assert kinds(await gateway.done(command)) == ["done"]
    assert model.statistics.requests == 1


async def test_a_job_flagged_before_it_is_begun_says_nothing(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    first = await gateway.ask(agent="slow")
    second = await gateway.ask(thread_id=first.thread_id, on_busy="interrupt")
    async with bench.worker():
        await gateway.done(second)
    assert kinds(await gateway.done(first)) == ["done"]
    assert model.statistics.requests == 1


async def test_while_the_model_is_silent(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    async with bench.worker(limits=patient(LIMITS)):
        command = await gateway.ask(agent="silent")
        await model.statistics.until(lambda seen: seen.open_streams == 1)
        await gateway.cancel(command)
        await model.statistics.until(lambda seen: seen.aborted == 1)
        events = await gateway.done(command)
    assert kinds(events) == ["started", "done"]
    assert (events[-1]["status"], events[-1]["content"]) == ("cancelled", "")


async def test_mid_stream_the_model_is_let_go_at_once_and_the_text_is_kept(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    async with bench.worker():
        command = await gateway.ask(agent="slow")
        await gateway.saying(command, tokens=10)
        asked = time.monotonic()
        assert await gateway.cancel(command) == "running"
        await model.statistics.until(lambda seen: seen.aborted == 1)
        seconds = time.monotonic() - asked
        events = await gateway.done(command)
    log.info("the model was let go %.1f ms after the cancel", seconds * 1000)
    assert seconds < ABORT_SECONDS_MAX
    assert kinds(events) == ["started", "token", "done"]
    done = events[-1]
    assert done["status"] == "cancelled"
    assert done["content"].startswith(words(1, 10))
    assert words(1, 100).startswith(done["content"])
    assert await gateway.dead() == []


async def test_between_two_attempts_the_text_of_the_last_is_kept(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    async with bench.worker():
        command = await gateway.ask(agent="broken")
        await gateway.saying(command, tokens=7)
        await model.statistics.until(lambda seen: seen.outcomes["cut"] == 1)
        await gateway.cancel(command)
        events = await gateway.done(command)
    assert kinds(events) == ["started", "token", "done"]
    assert (events[-1]["status"], events[-1]["content"]) == ("cancelled", words(1, 7))


async def test_after_its_worker_has_gone_the_text_of_the_last_attempt_is_kept(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    bench.agent("stuck", "fake:hang_after=9")
    async with bench.assembled(limits=patient(LIMITS), **QUICK) as gone:
        await gone.start()
        command = await gateway.ask(agent="stuck")
        await gateway.saying(command, tokens=9)
        await gone.stop()  # like a kill: nothing is handed over
    assert await gateway.cancel(command) == "running"
    async with bench.worker(consumer_name="w2", **QUICK):
        events = await gateway.done(command)
    assert kinds(events) == ["started", "token", "done"]
    assert (events[-1]["status"], events[-1]["content"]) == ("cancelled", words(1, 9))
    assert model.statistics.requests == 1


async def test_after_the_end_it_has_no_effect(bench: Bench, gateway: Gateway) -> None:
    async with bench.worker():
        command = await gateway.ask()
        events = await gateway.done(command)
        assert await gateway.cancel(command) == "done"
        other = await gateway.ask(thread_id=command.thread_id)
        assert (await gateway.done(other))[-1]["status"] == "done"
        assert await gateway.events(command) == events


async def flag(gateway: Gateway, job_id: str, thread_id: str) -> None:
    """A cancellation whose publish nobody heard."""
    await gateway.redis.hset(gateway.keys(thread_id).job(job_id), "cancel", "1")


async def test_a_lost_publish_is_made_up_for_by_the_next_append(
    bench: Bench, gateway: Gateway
) -> None:
    async with bench.worker(heartbeat_seconds=5, lease_seconds=60):
        command = await gateway.ask(agent="slow")
        await gateway.saying(command, tokens=5)
        await flag(gateway, command.job_id, command.thread_id)
        events = await gateway.done(command, seconds=2)
    assert events[-1]["status"] == "cancelled"


async def test_a_lost_publish_is_made_up_for_by_the_next_heartbeat(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    async with bench.worker(limits=patient(LIMITS), **QUICK):
        command = await gateway.ask(agent="silent")
        await model.statistics.until(lambda seen: seen.open_streams == 1)
        await flag(gateway, command.job_id, command.thread_id)
        events = await gateway.done(command, seconds=2)
    assert events[-1]["status"] == "cancelled"


async def test_a_cancel_at_the_moment_of_the_end_leaves_one_end(
    bench: Bench, gateway: Gateway
) -> None:
    bench.agent("quick", "fake:tokens=8,delay_ms=1")
    async with bench.worker():
        for number in range(20):
            command = await gateway.ask(agent="quick")
            await gateway.saying(command, tokens=1 + number % 8)
            await gateway.cancel(command)
            events = await gateway.done(command)
            assert events[-1]["status"] in ("done", "cancelled")


async def test_cancels_are_heard_again_after_the_connection_was_lost(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    async with bench.worker(heartbeat_seconds=5, lease_seconds=60, limits=patient(LIMITS)):
        await gateway.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

        async def is_subscribed() -> bool:
            cancels = PartitionKeys(0).cancels
            counts = await gateway.redis.execute_command("PUBSUB", "SHARDNUMSUB", cancels)
            return bool(counts and counts[1])

        await until(is_subscribed, seconds=5)

        async def is_heard() -> bool:
            command = await gateway.ask(agent="silent")
            await gateway.reached(command, lambda events: bool(events))
            await gateway.cancel(command)
            done = await gateway.done(command, seconds=2)
            return done[-1]["status"] == "cancelled"

        await until(is_heard, seconds=5)
