"""A worker never holds more commands than it runs, and gives every slot back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.orchestrator import consumer as consuming
from shared.errors import DeploymentError
from shared.redis_client import Redis
from tests.integration.orchestrator.gateway import Gateway, kinds
from tests.integration.orchestrator.models import Scripted
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import Bench

JOBS = 20
SLOTS = 4
QUICK: dict[str, Any] = {"lease_seconds": 0.6, "heartbeat_seconds": 0.15}


class Most:
    """The most commands that a worker was seen to hold."""

    def __init__(self, gateway: Gateway, consumer: str) -> None:
        self._gateway, self._consumer = gateway, consumer
        self.seen = 0

    async def watch(self) -> None:
        while True:
            self.seen = max(self.seen, await self._gateway.pending(self._consumer))
            await asyncio.sleep(0.002)


async def test_a_worker_never_holds_more_than_it_runs_and_another_takes_the_rest(
    bench: Bench, gateway: Gateway
) -> None:
    most = [Most(gateway, name) for name in ("w1", "w2")]
    async with (
        bench.worker(jobs_per_worker=SLOTS),
        bench.worker(jobs_per_worker=SLOTS, consumer_name="w2"),
    ):
        watches = [asyncio.create_task(each.watch()) for each in most]
        commands = [await gateway.ask(agent="brief") for _ in range(JOBS)]
        for command in commands:
            assert (await gateway.done(command))[-1]["status"] == "done"
        for watch in watches:
            watch.cancel()
    assert all(0 < each.seen <= SLOTS for each in most)
    assert await gateway.pending() == 0


async def test_one_slot_serves_every_partition(bench: Bench, gateway: Gateway) -> None:
    threads = [gateway.thread_in(partition) for partition in range(gateway.partitions)]
    async with bench.worker(jobs_per_worker=1):
        for thread in threads * 2:
            await gateway.done(await gateway.ask(thread_id=thread), seconds=2)


async def test_one_slot_takes_over_what_others_left(bench: Bench, gateway: Gateway) -> None:
    async with bench.assembled(**QUICK, consumer_name="w2") as gone:
        await gone.start()
        commands = [await gateway.ask(agent="brief") for _ in range(3)]
        for command in commands:
            await gateway.saying(command)
        await gone.stop()  # like a kill
    async with bench.worker(**QUICK, jobs_per_worker=1):
        for command in commands:
            assert (await gateway.done(command))[-1]["attempt"] == 2


async def all_slots_are_free(gateway: Gateway, slots: int) -> None:
    """So many jobs run at once, and none waits for another."""
    commands = [await gateway.ask(agent="slow") for _ in range(slots)]
    await asyncio.gather(*(gateway.saying(command) for command in commands))
    for command in commands:
        assert await gateway.cancel(command) == "running"
        await gateway.done(command)


async def post_raw(gateway: Gateway, partition: int, fields: dict[Any, Any]) -> None:
    await gateway.redis.xadd(gateway.keys(gateway.thread_in(partition)).commands, fields)


async def test_what_is_no_command_is_a_dead_letter_and_costs_no_slot(
    bench: Bench, gateway: Gateway
) -> None:
    poison: list[dict[Any, Any]] = [
        {"d": "not JSON"},
        {"d": b"\xff\xfe"},
        {"data": "another format"},
        {"d": '{"type":"CancelJob","v":1,"job_id":"job_x"}'},
        {"d": '{"type":"RunJob","v":1}'},
    ]
    async with bench.worker(jobs_per_worker=2):
        for number, fields in enumerate(poison * 2):
            await post_raw(gateway, number % gateway.partitions, fields)

        async def are_buried() -> bool:
            return len(await gateway.dead()) == 2 * len(poison)

        await until(are_buried)
        assert await gateway.pending() == 0
        await all_slots_are_free(gateway, 2)
    assert {letter[b"kind"] for letter in await gateway.dead()} == {b"command"}


async def test_a_command_of_an_unknown_job_is_a_dead_letter(bench: Bench, gateway: Gateway) -> None:
    command = await gateway.ask()
    await gateway.redis.delete(gateway.keys(command.thread_id).job(command.job_id))
    async with bench.worker(jobs_per_worker=1):

        async def is_buried() -> bool:
            return len(await gateway.dead()) == 1

        await until(is_buried)
        await all_slots_are_free(gateway, 1)


async def test_a_job_that_crashes_gives_its_slot_back(bench: Bench, gateway: Gateway) -> None:
    broken = Scripted(["a"], defect=RuntimeError("a defect in a node"))
    async with bench.worker(model=broken, **QUICK, jobs_per_worker=1, attempts_max=1):
        for command in [await gateway.ask() for _ in range(3)]:
            events = await gateway.done(command)
            assert kinds(events) == ["started", "token", "error", "done"]


@pytest.mark.parametrize("step", ["_parse", "_keep"])
async def test_an_entry_that_faststream_cannot_read_costs_no_slot(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Its own parser and decoder fail without telling the handler."""
    sound = getattr(consuming, step)
    failures = 0

    async def fails_at_first(message: Any, original: Any) -> Any:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise ValueError("unreadable")
        return await sound(message, original)

    monkeypatch.setattr(consuming, step, fails_at_first)
    async with bench.worker(**QUICK, jobs_per_worker=2):
        commands = [await gateway.ask() for _ in range(4)]
        for command in commands:
            await gateway.done(command)
        await all_slots_are_free(gateway, 2)
    assert failures == 3


async def test_reads_that_redis_refuses_are_repeated_calmly(
    bench: Bench, gateway: Gateway, redis: Redis
) -> None:
    async with bench.worker(lease_seconds=5):
        await redis.config_set("min-replicas-to-write", 1)
        try:
            before = await calls(redis)
            await asyncio.sleep(0.7)
            assert await calls(redis) - before < 100
        finally:
            await redis.config_set("min-replicas-to-write", 0)
        await all_slots_are_free(gateway, 3)


async def calls(redis: Redis) -> int:
    """How many group reads Redis has answered or refused."""
    stats: Any = await redis.info("commandstats")
    return sum(
        stats.get(f"cmdstat_{name}", {}).get(kind, 0)
        for name in ("xreadgroup", "xautoclaim")
        for kind in ("calls", "rejected_calls")
    )


async def test_a_worker_is_ready_from_start_to_stop(bench: Bench) -> None:
    async with bench.assembled() as worker:
        assert not await worker.is_ready()
        await worker.start()
        assert await worker.is_ready()
        await worker.drain()
        assert not await worker.is_ready()
        await worker.stop()
        await worker.stop()


async def test_what_was_delivered_and_not_begun_is_given_back_on_leaving(
    bench: Bench, gateway: Gateway
) -> None:
    """A read that was cut off may have been given an entry: no reader ever hears of it again."""
    command, _ = await gateway.delivered("w1")
    async with bench.worker(lease_seconds=30) as leaving:
        await gateway.done(await gateway.ask())
        await leaving.drain()
    async with bench.worker(lease_seconds=30, consumer_name="w2"):
        assert (await gateway.done(command))[-1]["attempt"] == 1


async def test_a_worker_does_not_start_with_another_number_of_partitions(
    bench: Bench, gateway: Gateway
) -> None:
    async with bench.worker():
        await gateway.done(await gateway.ask())
    with pytest.raises(DeploymentError):
        async with bench.worker(partitions=gateway.partitions + 1):
            pass
