"""Real worker processes and real signals: killed, paused, asked to leave."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from shared.commands import RunJob
from tests.integration.orchestrator.gateway import Event, Gateway, kinds, words
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import Bench, WorkerProcess
from tests.support.model_server import ModelServer

pytestmark = pytest.mark.faults

LEASE_SECONDS = 1.2
TAKE_OVER_SECONDS_MAX = 1.0  # beside the lease
HAND_OVER_SECONDS_MAX = 1.0
RecordProperty = Callable[[str, object], None]


@pytest.fixture(autouse=True)
def _agents(bench: Bench) -> None:
    bench.agent("slow", "fake:tokens=150,delay_ms=20")


@asynccontextmanager
async def two_workers(bench: Bench, **changes: Any) -> AsyncGenerator[dict[str, WorkerProcess]]:
    """Both start at once: most of it is importing."""
    async with AsyncExitStack() as stack:
        names = ("w1", "w2")
        started = await asyncio.gather(
            *(
                stack.enter_async_context(bench.process(consumer_name=name, **changes))
                for name in names
            )
        )
        yield dict(zip(names, started, strict=True))


async def began_again(gateway: Gateway, command: RunJob) -> float:
    """Seconds until the second attempt has said something."""
    since = time.monotonic()
    await gateway.saying(command, attempt=2)
    return time.monotonic() - since


def assert_answered_in_two_attempts(events: list[Event]) -> None:
    assert kinds(events) == ["started", "token", "started", "token", "done"]
    done = events[-1]
    assert (done["status"], done["attempt"], done["content"]) == ("done", 2, words(1, 150))


async def test_a_killed_workers_job_is_taken_over_within_a_lease(
    bench: Bench, gateway: Gateway, record_property: RecordProperty
) -> None:
    async with two_workers(bench) as workers:
        command = await gateway.ask(agent="slow")
        await gateway.saying(command, tokens=10)
        workers[await gateway.holder(command)].send(signal.SIGKILL)
        seconds = await began_again(gateway, command)
        record_property("taken_over_after_seconds", round(seconds, 3))
        assert seconds < LEASE_SECONDS + TAKE_OVER_SECONDS_MAX
        assert_answered_in_two_attempts(await gateway.done(command))


async def test_a_paused_worker_is_fenced_when_it_goes_on(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    async with two_workers(bench) as workers:
        command = await gateway.ask(agent="slow")
        await gateway.saying(command, tokens=10)
        paused = workers[await gateway.holder(command)]
        paused.send(signal.SIGSTOP)
        await gateway.saying(command, attempt=2)
        paused.send(signal.SIGCONT)
        await model.statistics.until(lambda seen: seen.aborted == 1)
        events = await gateway.done(command)
        assert_answered_in_two_attempts(events)
        other = await gateway.ask(agent="slow")  # and is as good as before
        await gateway.saying(other)


async def test_a_worker_asked_to_leave_hands_over_at_once(
    bench: Bench, gateway: Gateway, model: ModelServer, record_property: RecordProperty
) -> None:
    """Long before the lease is over; what it had said is in the stream."""
    async with two_workers(bench, lease_seconds=30) as workers:
        commands = [await gateway.ask(agent="slow") for _ in range(6)]
        for command in commands:
            await gateway.saying(command, tokens=10)
        leaving = await gateway.holder(commands[0])
        moved = [c for c in commands if await gateway.holder(c) == leaving]
        passed_on = model.statistics.records
        said = {record.tokens for record in passed_on}
        workers[leaving].send(signal.SIGTERM)
        seconds = max(await asyncio.gather(*(began_again(gateway, command) for command in moved)))
        record_property("handed_over_after_seconds", round(seconds, 3))
        assert await workers[leaving].exit_code() == 0
        assert seconds < HAND_OVER_SECONDS_MAX
        assert min(said) >= 10
        for command in commands:
            events = await gateway.done(command)
            assert events[-1]["attempt"] == (2 if command in moved else 1)
            assert events[-1]["content"] == words(1, 150)


async def test_leaving_under_load_loses_and_strands_nothing(bench: Bench, gateway: Gateway) -> None:
    """Commands arrive all the while; a lease is far longer than the test may take."""
    bench.agent("brief", "fake:tokens=10,delay_ms=10")
    async with two_workers(bench, lease_seconds=30) as workers:
        commands: list[RunJob] = []
        for number in range(60):
            commands.append(await gateway.ask(agent="brief"))
            await asyncio.sleep(0.005)
            if number == 30:
                workers["w1"].send(signal.SIGTERM)
        assert await workers["w1"].exit_code() == 0
        for command in commands:
            events = await gateway.done(command, seconds=5)
            assert events[-1]["content"] == words(1, 10)
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
        assert await gateway.events(command) == []
        assert (await gateway.job(command)).status == "queued"
    async with bench.process(consumer_name="w2"):
        for asked in (command, running):
            assert (await gateway.done(asked))[-1]["status"] == "done"


async def test_commands_written_before_the_first_worker_are_run(
    bench: Bench, gateway: Gateway
) -> None:
    commands = [await gateway.ask() for _ in range(5)]
    async with bench.process():
        for command in commands:
            assert (await gateway.done(command))[-1]["status"] == "done"


async def test_a_worker_without_its_group_ends_and_says_so(bench: Bench, gateway: Gateway) -> None:
    async with bench.process() as worker:
        await gateway.redis.delete(gateway.keys(gateway.thread_in(1)).commands)
        assert await worker.exit_code() == 1
    async with bench.process(consumer_name="w2"):  # started again, it makes the group anew
        assert (await gateway.done(await gateway.ask()))[-1]["status"] == "done"


async def test_a_worker_whose_connections_are_killed_goes_on(
    bench: Bench, gateway: Gateway, record_property: RecordProperty
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
        record_property("resumed_after_seconds", round(seconds, 3))
        assert seconds < 1.0
        assert (await gateway.done(running))[-1]["attempt"] == 1
        worker.send(signal.SIGTERM)
        assert await worker.exit_code() == 0


async def test_wrong_settings_are_told_in_a_line(bench: Bench) -> None:
    for changes in ({"llm_base_url": "ftp://model"}, {"redis_url": ""}):
        assert "HEADWATER_" in await complaint(bench, **changes)


async def complaint(bench: Bench, **changes: Any) -> str:
    """What a worker says that does not start."""
    with pytest.raises(AssertionError, match="has died"):
        async with bench.process(**changes):
            pass
    said = (bench.folder / "w1.log").read_text()
    assert "Traceback" not in said
    return said.splitlines()[-1]


async def test_a_worker_is_told_apart_from_its_predecessor_of_the_same_name(
    bench: Bench, gateway: Gateway
) -> None:
    """A container keeps its name: the entries of the one that was killed are not its own."""
    async with bench.process() as worker:
        command = await gateway.ask(agent="slow")
        await gateway.saying(command, tokens=10)
        worker.send(signal.SIGKILL)
        await worker.end()
    async with bench.process():

        async def is_done() -> bool:
            return (await gateway.job(command)).is_over

        await until(is_done)
        assert_answered_in_two_attempts(await gateway.done(command))
