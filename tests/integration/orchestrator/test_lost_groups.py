"""Streams and groups that vanish under a worker's readers, on every server there is."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.redis_client import Redis
from tests.integration.orchestrator.gateway import Gateway
from tests.integration.orchestrator.test_admission import calls, post_raw
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import Bench
from tests.support.bare_server import SERVERS, bare_server

HEAL_SECONDS_MAX = 5.0
FAILED_SECONDS_MAX = 3.0
READS_A_SECOND_MAX = 8


@pytest.fixture(params=SERVERS)
def redis_url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    with bare_server(tmp_path, request.param) as server:
        yield server.url


async def all_blocked(redis: Redis, partitions: int) -> None:
    """Every partition's reader waits at Redis."""

    async def are() -> bool:
        return (await redis.info("clients"))["blocked_clients"] >= partitions

    await until(are)


async def every_partition_is_read(gateway: Gateway) -> None:
    """An entry of each is delivered; that it is no command makes it a dead letter."""
    before = len(await gateway.dead())
    for partition in range(gateway.partitions):
        await post_raw(gateway, partition, {"d": "not JSON"})

    async def are_delivered() -> bool:
        return len(await gateway.dead()) == before + gateway.partitions

    await until(are_delivered, seconds=HEAL_SECONDS_MAX)


async def delete_commands(redis: Redis, partitions: int) -> None:
    for partition in range(partitions):
        await redis.delete(PartitionKeys(partition).commands)


async def test_a_process_whose_redis_is_emptied_goes_on(
    bench: Bench, gateway: Gateway, redis: Redis
) -> None:
    async with bench.process() as worker:
        await all_blocked(redis, gateway.partitions)
        for _ in range(2):
            await redis.flushall()
            await every_partition_is_read(gateway)
        await worker.ready()
        worker.send(signal.SIGTERM)
        assert await worker.exit_code() == 0


async def test_what_is_added_before_a_group_is_back_is_delivered(
    bench: Bench, gateway: Gateway, redis: Redis
) -> None:
    async with bench.worker() as worker:
        await all_blocked(redis, gateway.partitions)
        pipeline = redis.pipeline(transaction=True)
        for partition in range(gateway.partitions):
            stream = PartitionKeys(partition).commands
            pipeline.delete(stream)
            pipeline.xadd(stream, {"d": "not JSON"})
        await pipeline.execute()

        async def are_delivered() -> bool:
            return len(await gateway.dead()) == gateway.partitions

        await until(are_delivered, seconds=HEAL_SECONDS_MAX)
        assert await worker.is_ready()
        assert (await gateway.done(await gateway.ask()))[-1]["status"] == "done"


async def test_one_slot_is_enough_to_heal_every_reader(
    bench: Bench, gateway: Gateway, redis: Redis
) -> None:
    """A reader that waits for its next try holds none."""
    async with bench.worker(jobs_per_worker=1):
        await delete_commands(redis, gateway.partitions)
        await every_partition_is_read(gateway)


async def test_a_reclaimer_heals_its_group(bench: Bench, gateway: Gateway, redis: Redis) -> None:
    """Also when the reader, which blocks, hears nothing of a group destroyed and a stream kept."""
    async with bench.worker() as worker:
        await all_blocked(redis, gateway.partitions)
        for partition in range(gateway.partitions):
            await redis.xgroup_destroy(PartitionKeys(partition).commands, ORCHESTRATORS)
        await every_partition_is_read(gateway)
        assert await worker.is_ready()


async def test_emptied_redis_learns_the_number_of_partitions_again(
    bench: Bench, gateway: Gateway, redis: Redis
) -> None:
    """Or a worker with another number could join those that run."""
    async with bench.worker():
        await redis.flushall()
        await every_partition_is_read(gateway)
        known = await redis.hget(PartitionKeys(0).meta, "partitions")  # pyright: ignore[reportGeneralTypeIssues]
        assert known == str(gateway.partitions).encode()


async def test_groups_that_cannot_be_made_are_no_loop(
    bench: Bench, gateway: Gateway, redis: Redis
) -> None:
    """Redis is full, so that nothing can be added, not even a group."""
    async with bench.worker():
        await redis.config_set("maxmemory", 1)
        try:
            await delete_commands(redis, gateway.partitions)
            before = await calls(redis)
            await asyncio.sleep(1)
            assert (await calls(redis) - before) / (2 * gateway.partitions) < READS_A_SECOND_MAX
        finally:
            await redis.config_set("maxmemory", 0)
        await every_partition_is_read(gateway)


async def test_giving_back_needs_no_group(bench: Bench, gateway: Gateway, redis: Redis) -> None:
    async with bench.worker() as worker:
        consumer = worker._parts.consumer
        await consumer.stop_reading()
        await delete_commands(redis, gateway.partitions)
        await consumer.give_back()


async def test_a_worker_with_a_dead_subscriber_has_failed(bench: Bench) -> None:
    async with bench.worker() as worker:
        assert await worker.is_ready()
        await worker._parts.consumer._subscribers[3].stop()
        assert not await worker.is_ready()
        async with asyncio.timeout(FAILED_SECONDS_MAX):
            assert "subscriber" in await worker.failed()
