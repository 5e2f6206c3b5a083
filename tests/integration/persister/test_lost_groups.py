"""Logs and groups that vanish under a persister's readers, on every server there is."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister import consumer, provenance
from shared.codec import Record, encode
from shared.events import ThreadCreated
from shared.group_reads import Broker, start_reading
from shared.ids import new_thread_id
from shared.keys import PERSISTERS, PartitionKeys
from shared.redis_client import Redis
from shared.settings import Settings
from shared.times import utc_now
from tests.integration.persister.observing import pending
from tests.integration.persister.processes import persister
from tests.integration.persister.running import eventually, is_consumed, running
from tests.integration.persister.writer import PARTITIONS, USER, Writer
from tests.support.bare_server import SERVERS, bare_server

HEAL_SECONDS_MAX = 5.0
FAILED_SECONDS_MAX = 5.0


@pytest.fixture(params=SERVERS)
def redis_url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    with bare_server(tmp_path, request.param) as server:
        yield server.url


async def all_blocked(redis: Redis) -> None:
    """Every partition's reader waits at Redis."""

    async def are() -> bool:
        return (await redis.info("clients"))["blocked_clients"] >= PARTITIONS

    await eventually(are)


def created(thread_id: str) -> Record:
    """The first event of a thread."""
    event = ThreadCreated(thread_id=thread_id, at=utc_now(), owner=USER, title="first")
    return Record(position=1, stream=thread_id, seq=1, type=event.type, data=encode(event))


async def every_log_is_read(writer: Writer, engine: AsyncEngine) -> None:
    """An entry of each comes into the archive."""
    threads: dict[int, str] = {}
    while len(threads) < PARTITIONS:
        thread_id = new_thread_id()
        threads.setdefault(writer.keys(thread_id).partition, thread_id)
    for thread_id in threads.values():
        await writer.write(created(thread_id), thread_id)

    archived = partial(_is_archived, engine, list(threads.values()))
    await eventually(archived, seconds=HEAL_SECONDS_MAX)


async def _is_archived(engine: AsyncEngine, threads: list[str]) -> bool:
    """Whether each has its first event."""
    query = text("SELECT count(DISTINCT thread_id) FROM events WHERE thread_id = ANY(:threads)")
    async with engine.connect() as connection:
        return await connection.scalar(query, {"threads": threads}) == len(threads)


async def test_groups_that_vanish_while_it_starts_begin_at_the_beginning(
    writer: Writer, settings: Settings, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = await writer.ask()

    async def start_late(broker: Broker) -> None:
        for partition in range(PARTITIONS):
            await writer.redis.xgroup_destroy(PartitionKeys(partition).log, PERSISTERS)
        await start_reading(broker)

    monkeypatch.setattr(consumer, "start_reading", start_late)
    async with running(settings):
        await eventually(
            partial(_is_archived, engine, [command.thread_id]), seconds=HEAL_SECONDS_MAX
        )


async def test_a_process_whose_redis_is_emptied_goes_on(
    writer: Writer, settings: Settings, engine: AsyncEngine, tmp_path: Path
) -> None:
    with persister(settings, tmp_path) as process:
        await eventually(process.is_ready)
        await all_blocked(writer.redis)
        for _ in range(2):
            await writer.redis.flushall()
            await every_log_is_read(writer, engine)
        await eventually(process.is_ready)
        assert process.terminate() == 0, process.log.read_text()


async def test_a_log_deleted_under_its_readers(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    """What is added before the group is back is delivered too."""
    async with running(settings) as persister:
        await all_blocked(writer.redis)
        for partition in range(PARTITIONS):
            await writer.redis.delete(PartitionKeys(partition).log)
        await writer.chat()
        await every_log_is_read(writer, engine)
        await eventually(lambda: is_consumed(writer.redis))
        assert await persister.is_ready()


async def test_a_batch_in_hand_outlives_its_group(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    """Nobody makes the group again: no lease can be renewed, nothing acknowledged."""
    async with running(settings) as persister, engine.connect() as connection:
        await connection.execute(text("LOCK TABLE threads"))
        await writer.write(created(thread_id := new_thread_id()), thread_id)
        await eventually(lambda: _has_pending(writer.redis))
        drain = asyncio.create_task(persister.drain())
        await eventually(lambda: _reads_nothing(writer.redis))
        await writer.redis.delete(*(PartitionKeys(each).log for each in range(PARTITIONS)))
        failed = await _failed_claims(writer.redis)
        await eventually(lambda: _claims_fail(writer.redis, more_than=failed + 1))
        assert not drain.done()
        await connection.rollback()
        await drain
        assert not persister._consumer.trimmable
    await eventually(lambda: _is_archived(engine, [thread_id]))


async def _has_pending(redis: Redis) -> bool:
    return bool(await pending(redis))


async def _reads_nothing(redis: Redis) -> bool:
    return (await redis.info("clients"))["blocked_clients"] == 0


async def _failed_claims(redis: Redis) -> int:
    stats: Any = await redis.info("commandstats")
    return stats.get("cmdstat_xclaim", {}).get("failed_calls", 0)


async def _claims_fail(redis: Redis, *, more_than: int) -> bool:
    return await _failed_claims(redis) > more_than


async def _life(redis: Redis, partition: int) -> str:
    life: Any = await redis.hget(PartitionKeys(partition).meta, "life")  # pyright: ignore[reportGeneralTypeIssues]
    return life.decode()


async def test_an_entry_taken_over_outlives_its_group(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    """What lies idle behind it is gone, but this one is here."""
    thread_id = new_thread_id()
    record = created(thread_id)
    partition, log = writer.keys(thread_id).partition, writer.keys(thread_id).log
    fields = {b"h": thread_id.encode(), b"p": b"1", b"j": thread_id.encode(), b"s": b"1"}
    fields |= {b"t": record.type.encode(), b"d": record.data}
    raw: Any = {"type": "bstream", "channel": log, "message_ids": [b"1-0"], "data": [fields]}
    async with running(settings) as persister:
        consumer = persister._consumer
        await consumer.stop()
        provenance._life.set(await _life(writer.redis, partition))
        await writer.redis.delete(log)
        await consumer._reclaim(partition, await consumer._parse(raw, None))
    assert await _is_archived(engine, [thread_id])


async def test_a_persister_with_a_dead_subscriber_has_failed(
    writer: Writer, settings: Settings
) -> None:
    async with running(settings) as persister:
        assert await persister.is_ready()
        await persister._consumer._subscribers[1].stop()
        assert not await persister.is_ready()
        async with asyncio.timeout(FAILED_SECONDS_MAX):
            assert await persister.failed() == "a subscriber has stopped"


async def test_acknowledging_without_a_group_does_nothing(redis: Redis) -> None:
    assert await redis.xack("nothing", PERSISTERS, "1-0") == 0
