"""Redis forgets everything: what is unfinished comes back, the rest waits in the archive."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.orchestrator.last_words import text_of_attempt
from shared.archive import Archive
from shared.continuity import RECALL_SECONDS, Continuity
from shared.errors import LogUnavailable
from shared.hot_state import HotState
from shared.keys import PartitionKeys
from shared.redis_client import Redis
from shared.settings import Settings
from shared.thread_log import ThreadLog
from shared.thread_stream import ThreadStream
from tests.integration.persister.losing import (
    archive_by_persister,
    archive_now,
    command_entries,
    commands_of,
    image,
    restore_with,
)
from tests.integration.persister.tables import archive
from tests.integration.persister.writer import PARTITIONS, TTL_SECONDS, Writer
from tests.support.event_history import check_thread_history


async def emptied(writer: Writer, engine: AsyncEngine) -> None:
    """Everything is archived, lost and restored."""
    await archive_now(writer, engine)
    await writer.redis.flushall()
    with pytest.raises(LogUnavailable):
        await writer.ask()
    await restore_with(engine, writer.redis).closed_partitions()
    assert await Continuity(writer.redis, PARTITIONS).closed() == []


async def test_what_is_not_there_may_still_come_for_a_while(
    writer: Writer, engine: AsyncEngine
) -> None:
    """From a worker; not in a deployment that is new."""
    hot = HotState(writer.redis, PARTITIONS)
    await writer.redis.flushall()
    await restore_with(engine, writer.redis).closed_partitions()
    partitions = range(PARTITIONS)
    assert all([await hot.is_verified(partition) for partition in partitions])
    await writer.ask()
    await emptied(writer, engine)
    assert not any([await hot.is_verified(partition) for partition in partitions])
    for partition in partitions:
        assert 0 < await writer.redis.pttl(PartitionKeys(partition).recall) <= 1000 * RECALL_SECONDS


async def test_a_job_that_ran_goes_on_above_what_is_archived(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    command = await writer.ask()
    last = await writer.say(await writer.begin(command), ["a", "b"])
    await emptied(writer, engine)
    assert len(await commands_of(writer, command)) == 1
    lease = await writer.begin(command)
    assert (lease.attempt, lease.seq, lease.first) == (2, last + 1, 2)
    await writer.end(lease, command.reply_id, "", after=lease.seq)
    await archive_by_persister(writer, settings)
    [records] = (await archive(engine)).values()
    check_thread_history(records)
    assert [r.seq for r in records if r.stream == command.job_id] == [1, 2, 3, 4, 5]


async def test_what_an_attempt_had_said_is_read_from_the_archive(
    writer: Writer, engine: AsyncEngine
) -> None:
    """It is the answer of a job that was cancelled, and is not begun again."""
    command = await writer.ask()
    lease = await writer.begin(command)
    last = await writer.say(lease, ["one", " two"])
    await archive_now(writer, engine)
    await writer.say(lease, [" three"], after=last)
    await emptied(writer, engine)
    stream = ThreadStream(HotState(writer.redis, PARTITIONS), Archive(engine))
    assert await text_of_attempt(stream, lease) == "one two three"


async def test_what_waited_waits_again(writer: Writer, engine: AsyncEngine) -> None:
    commands = [first := await writer.ask()]
    commands += [await writer.ask(first.thread_id) for _ in range(3)]
    await emptied(writer, engine)
    found = await image(writer, commands)
    queue = [command.job_id.encode() for command in commands[1:]]
    assert found[first.thread_id]["queue"] == queue
    assert not found[first.thread_id]["leaves"]
    for command in commands:
        await writer.answer(command, ["a"])
    assert await command_entries(writer.redis) == [[] for _ in range(PARTITIONS)]


async def test_a_thread_without_an_unfinished_job_stays_out_until_it_is_needed(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    ended = await writer.chat()
    await emptied(writer, engine)
    found = await image(writer, [ended])
    assert not any(found[ended.thread_id].values())
    thread = await Archive(engine).thread(ended.thread_id)
    assert thread is not None
    await ThreadLog(writer.redis, PARTITIONS, idle_ttl_seconds=TTL_SECONDS).load(thread)
    await writer.answer(await writer.ask(ended.thread_id), ["more"])
    await archive_by_persister(writer, settings)
    [records] = (await archive(engine)).values()
    check_thread_history(records)
    assert len(records) == 11


async def test_a_hole_in_the_archive_keeps_nothing_closed(
    writer: Writer, engine: AsyncEngine
) -> None:
    command = await writer.ask()
    await writer.say(await writer.begin(command), ["a", "b", "c"])
    await archive_now(writer, engine)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM events WHERE position = 5"))
        await connection.execute(text("UPDATE checkpoints SET log_ms = log_ms + 3600000"))
    await emptied(writer, engine)
    lease = await writer.begin(command)
    assert lease.seq == 5  # above the hole and all that is behind it


async def test_a_job_whose_message_is_not_archived_is_left_alone(
    writer: Writer, engine: AsyncEngine
) -> None:
    """There is nothing its command could be made of."""
    command = await writer.ask()
    await writer.begin(command)
    await archive_now(writer, engine)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM events WHERE type = 'message.posted'"))
    await emptied(writer, engine)
    assert await commands_of(writer, command) == []


async def test_a_server_that_was_never_used_is_opened(redis: Redis, engine: AsyncEngine) -> None:
    await redis.flushall()
    await restore_with(engine, redis).closed_partitions()
    assert await Continuity(redis, PARTITIONS).closed() == []
