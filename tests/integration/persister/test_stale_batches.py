"""A batch that outlived the Redis it was read from does not get into the archive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.batch import read_batch
from services.persister.statements import CHECKPOINT, RESTORED
from services.persister.store import StaleBatch, Store
from shared.continuity import Continuity
from shared.keys import PERSISTERS
from shared.settings import Settings
from tests.integration.persister.dividing import are_made
from tests.integration.persister.losing import archive_by_persister, archive_now, restore_with
from tests.integration.persister.observing import assert_archived, somebody_waits
from tests.integration.persister.running import eventually, is_consumed, running
from tests.integration.persister.tables import archive
from tests.integration.persister.writer import PARTITIONS, Writer
from tests.support.append_only_file import lose_since, moment
from tests.support.event_history import check_thread_history
from tests.support.servers import Server

ALL = list(range(PARTITIONS))


@asynccontextmanager
async def archive_is_held(engine: AsyncEngine) -> AsyncGenerator[None]:
    """It can be read, and every transaction that writes events waits, and nothing else does."""
    await eventually(lambda: are_made(engine))
    async with engine.connect() as outsider:
        await outsider.execute(text("LOCK TABLE events IN EXCLUSIVE MODE"))
        yield
        await outsider.rollback()


async def are_open(writer: Writer) -> bool:
    return await Continuity(writer.redis, PARTITIONS).closed() == []


async def note(engine: AsyncEngine, life: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(RESTORED, {"partitions": ALL, "life": life})


async def test_events_that_redis_lost_while_their_batch_waited_are_not_archived(
    writer: Writer, settings: Settings, engine: AsyncEngine, valkey_server: Server
) -> None:
    """Their numbers are given out again, and the archive has what the stream has."""
    command = await writer.ask()
    lease = await writer.begin(command)
    async with running(settings):
        await eventually(lambda: is_consumed(writer.redis))
        then = moment(valkey_server)
        async with archive_is_held(engine):
            await writer.say(lease, ["lost", "and", "gone"])
            await eventually(lambda: somebody_waits(engine))
            lose_since(valkey_server, then)
            await eventually(lambda: are_open(writer))
        said = await writer.say(lease, ["kept"])
        await writer.end(lease, command.reply_id, "kept", after=said)
        await eventually(lambda: assert_archived(writer, engine))
        await eventually(lambda: is_consumed(writer.redis))


async def test_nor_are_events_that_were_flushed_away(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    """The server is the same, and what it knew is gone."""
    command = await writer.ask()
    lease = await writer.begin(command)
    async with running(settings):
        await eventually(lambda: is_consumed(writer.redis))
        async with archive_is_held(engine):
            await writer.say(lease, ["lost", "and", "gone"])
            await eventually(lambda: somebody_waits(engine))
            await writer.redis.flushall()
            await eventually(lambda: are_open(writer))
        lease = await writer.begin(command)
        await writer.end(lease, command.reply_id, "", after=lease.seq)
        await eventually(lambda: is_consumed(writer.redis))
    [records] = (await archive(engine)).values()
    check_thread_history(records)
    assert [record.type for record in records][3:] == ["started", "done"]


async def test_what_has_survived_of_a_stale_batch_is_archived(
    writer: Writer, settings: Settings, engine: AsyncEngine, valkey_server: Server
) -> None:
    async with running(settings):
        await eventually(lambda: are_open(writer))
        async with archive_is_held(engine):
            await writer.chat()
            await eventually(lambda: somebody_waits(engine))
            then = moment(valkey_server)
            await writer.ask()
            lost = writer.threads.pop()
            lose_since(valkey_server, then)
            await eventually(lambda: are_open(writer))
        await eventually(lambda: assert_archived(writer, engine))
        assert lost not in await archive(engine)


async def test_a_stale_batch_leaves_nothing_behind(writer: Writer, engine: AsyncEngine) -> None:
    command = await writer.chat()
    keys = writer.keys(command.thread_id)
    reply: Any = await writer.redis.xreadgroup(PERSISTERS, "p", {keys.log: ">"})
    batch = read_batch(reply[0][1])
    await note(engine, "later")
    with pytest.raises(StaleBatch):
        await Store(engine).commit(keys.partition, batch, "earlier")
    assert await archive(engine) == {}
    await Store(engine).commit(keys.partition, batch, "later")
    await assert_archived(writer, engine)


async def test_the_snapshot_has_what_was_about_to_be_committed(
    writer: Writer, engine: AsyncEngine
) -> None:
    """A transaction that has passed the look at its life is waited for."""
    command = await writer.ask()
    await archive_now(writer, engine)
    await note(engine, "earlier")
    partition = writer.keys(command.thread_id).partition
    row = {"partition": partition, "log_ms": 1, "log_n": 0, "added": 0}
    values = {"rows": json.dumps([row]), "lives": json.dumps({partition: "earlier"})}
    await writer.redis.flushall()
    async with engine.connect() as batch:
        await batch.execute(CHECKPOINT, values)
        restoring = asyncio.create_task(restore_with(engine, writer.redis).closed_partitions())
        await eventually(lambda: somebody_waits(engine))
        assert not await are_open(writer)
        await batch.commit()
    await restoring
    assert await are_open(writer)


async def test_a_wrong_life_in_the_archive_is_put_right(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    """As a persister leaves it that was paused between its looks at Redis and at Postgres."""
    await writer.chat()
    await archive_by_persister(writer, settings)
    await note(engine, "of another time")
    await writer.chat()
    await archive_by_persister(writer, settings)
    await assert_archived(writer, engine)


async def test_others_may_try_what_cannot_be_archived_here(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    """Its holder goes on trying, and renews its lease no more."""
    async with running(settings):
        await eventually(lambda: is_consumed(writer.redis))
        async with archive_is_held(engine):
            command = await writer.chat()
            log = writer.keys(command.thread_id).log

            async def is_taken_over() -> bool:
                held: Any = await writer.redis.xpending_range(log, PERSISTERS, "-", "+", 100)
                return bool(held) and all(entry["times_delivered"] > 1 for entry in held)

            await eventually(is_taken_over)
        await eventually(lambda: is_consumed(writer.redis))
        await assert_archived(writer, engine)
