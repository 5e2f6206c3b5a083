"""Real worker processes and real signals: killed, paused, asked to leave.

The process begins the jobs; a second worker, in the test's own loop, is there to take them over.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time

import pytest

from shared.commands import RunJob
from tests.integration.orchestrator.gateway import Event, Gateway, kinds, words
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import Bench
from tests.support.model_server import ModelServer

pytestmark = pytest.mark.faults

LEASE_SECONDS = 1.2
TAKE_OVER_SECONDS_MAX = 1.0  # beside the lease
HAND_OVER_SECONDS_MAX = 1.0 + 1.0  # and what a busy machine adds
RESUME_SECONDS_MAX = 1.0
OTHER = "w2"

log = logging.getLogger(__name__)


async def second_attempt(gateway: Gateway, command: RunJob) -> float:
    """Seconds until the job's second attempt has said something."""
    since = time.monotonic()
    await gateway.saying(command, attempt=2)
    return time.monotonic() - since


def check_two_attempts(events: list[Event]) -> None:
    assert kinds(events) == ["started", "token", "started", "token", "done"]
    done = events[-1]
    assert (done["status"], done["attempt"], done["content"]) == ("done", 2, words(1, 100))


async def test_a_killed_workers_job_is_taken_over_within_a_lease(
    bench: Bench, gateway: Gateway
) -> None:
    async with bench.process(lease_seconds=LEASE_SECONDS) as worker:
        command = await gateway.ask(agent="slow")
        await gateway.saying(command, tokens=10)
        async with bench.worker(lease_seconds=LEASE_SECONDS, consumer_name=OTHER):
            worker.send(signal.SIGKILL)
            seconds = await second_attempt(gateway, command)
            log.info("taken over after %.2f s, the lease being %g s", seconds, LEASE_SECONDS)
            assert seconds < LEASE_SECONDS + TAKE_OVER_SECONDS_MAX
            check_two_attempts(await gateway.done(command))


async def test_a_paused_worker_is_fenced_when_it_goes_on(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    async with bench.process() as worker:
        command = await gateway.ask(agent="slow")
        await gateway.saying(command, tokens=10)
        async with bench.worker(consumer_name=OTHER):
            worker.send(signal.SIGSTOP)
            await gateway.saying(command, attempt=2)
            worker.send(signal.SIGCONT)
            await model.statistics.until(lambda seen: seen.aborted == 1)
            check_two_attempts(await gateway.done(command))
        last = await gateway.ask()  # and it is as good as before
        assert (await gateway.done(last))[-1]["status"] == "done"


async def test_a_worker_asked_to_leave_lets_its_jobs_end(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    async with bench.process(lease_seconds=30) as worker:
        commands = [await gateway.ask(agent="slow") for _ in range(6)]
        for command in commands:
            await gateway.saying(command, tokens=10)
        worker.send(signal.SIGTERM)
        await until(worker.looks_unready)
        assert (await gateway.job(commands[0])).status == "running"
        async with bench.worker(lease_seconds=30, consumer_name=OTHER):
            assert (await gateway.done(await gateway.ask()))[-1]["status"] == "done"
            assert await worker.exit_code() == 0
        for command in commands:
            done = (await gateway.done(command))[-1]
            assert (done["status"], done["attempt"]) == ("done", 1)
    assert model.statistics.aborted == 0


async def test_a_worker_asked_twice_to_leave_hands_over_at_once(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    """Long before the lease is over, or a job."""
    async with bench.process(lease_seconds=30) as worker:
        commands = [await gateway.ask(agent="slow") for _ in range(6)]
        for command in commands:
            await gateway.saying(command, tokens=10)
        async with bench.worker(lease_seconds=30, consumer_name=OTHER):
            worker.send(signal.SIGTERM)
            worker.send(signal.SIGINT)
            times = await asyncio.gather(*(second_attempt(gateway, c) for c in commands))
            log.info("handed over after %.2f s", max(times))
            assert max(times) < HAND_OVER_SECONDS_MAX
            assert await worker.exit_code() == 0
            for command in commands:
                check_two_attempts(await gateway.done(command))
    assert model.statistics.aborted == len(commands)


async def test_leaving_while_commands_arrive_strands_none(bench: Bench, gateway: Gateway) -> None:
    """A read that is cut off may have been given an entry, which no lease gives back in time."""
    async with (
        bench.process(lease_seconds=30) as worker,
        bench.worker(lease_seconds=30, consumer_name=OTHER),
    ):
        commands: list[RunJob] = []
        for number in range(80):
            commands.append(await gateway.ask(agent="brief"))
            await asyncio.sleep(0.004)
            if number == 30:
                worker.send(signal.SIGTERM)
        assert await worker.exit_code() == 0
        for command in commands:
            assert (await gateway.done(command, seconds=5))[-1]["content"] == words(1, 10)
        assert await gateway.pending() == 0


async def test_after_being_asked_to_leave_a_worker_takes_nothing(
    bench: Bench, gateway: Gateway
) -> None:
    async with bench.process() as worker:
        running = await gateway.ask(agent="slow")
        await gateway.saying(running)
        worker.send(signal.SIGTERM)
        assert await worker.exit_code() == 0
    command = await gateway.ask()
    assert (await gateway.job(command)).status == "queued"
    async with bench.worker(consumer_name=OTHER):
        for asked in (command, running):
            assert (await gateway.done(asked))[-1]["status"] == "done"


async def test_a_worker_whose_connections_are_killed_goes_on(
    bench: Bench, gateway: Gateway
) -> None:
    async with bench.process() as worker:
        running = await gateway.ask(agent="slow")
        await gateway.saying(running)
        for kind in ("normal", "pubsub"):
            await gateway.redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        since = time.monotonic()
        command = await gateway.ask()
        await gateway.saying(command)
        seconds = time.monotonic() - since
        log.info("resumed after %.2f s", seconds)
        assert seconds < RESUME_SECONDS_MAX
        assert (await gateway.done(running))[-1]["attempt"] == 1
        worker.send(signal.SIGTERM)
        assert await worker.exit_code() == 0


async def test_a_wrong_setting_is_told_in_a_line(bench: Bench) -> None:
    with pytest.raises(AssertionError, match="has died"):
        async with bench.process(llm_base_url="ftp://model"):
            pass
    said = (bench.folder / "w1.log").read_text()
    assert "Traceback" not in said
    assert "HEADWATER_LLM_BASE_URL" in said.splitlines()[-1]
