"""What is archived behind a hole that nobody can fill is taken out before numbers are given out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.persister.restore import Restore
from shared.errors import LogUnavailable
from shared.keys import PERSISTERS, PartitionKeys
from shared.retention import Retention
from tests.integration.persister.losing import archive_now, commands_of, restore_with
from tests.integration.persister.observing import assert_archived
from tests.integration.persister.tables import archive, expected_read_model, read_model
from tests.integration.persister.writer import PARTITIONS, TTL_SECONDS, Writer
from tests.support.append_only_file import lose_since, moment
from tests.support.event_history import check_thread_history
from tests.support.servers import Server

QUESTION = ("thread.created", "message.posted")


async def hold(writer: Writer, thread_id: str) -> None:
    """A persister has read what is in the log, and does not come to archive it."""
    log = writer.keys(thread_id).log
    await writer.redis.xreadgroup(PERSISTERS, "slow", {log: ">"}, count=100)


async def test_a_worker_that_lives_says_it_again(
    writer: Writer, engine: AsyncEngine, valkey_server: Server
) -> None:
    command = await writer.ask()
    lease = await writer.begin(command)
    await archive_now(writer, engine)
    then = moment(valkey_server)
    last = await writer.say(lease, ["held"])
    await hold(writer, command.thread_id)
    await writer.say(lease, ["archived", "too"], after=last)
    await archive_now(writer, engine)
    assert len((await archive(engine))[command.thread_id]) == 5
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    await assert_archived(writer, engine)
    last = await writer.say(lease, ["another", "text", "now"])
    await writer.end(lease, command.reply_id, "another text now", after=last)
    await archive_now(writer, engine)
    await assert_archived(writer, engine)


async def test_an_answer_that_had_ended_begins_again(writer: Writer, engine: AsyncEngine) -> None:
    """Its end was behind the hole; nobody could ever have read it from the beginning."""
    command = await writer.ask()
    lease = await writer.begin(command)
    await archive_now(writer, engine)
    last = await writer.say(lease, ["held"])
    await hold(writer, command.thread_id)
    await writer.end(lease, command.reply_id, "held", after=last)
    await archive_now(writer, engine)
    await writer.redis.flushall()
    await restore_with(engine, writer.redis).closed_partitions()
    assert len(await commands_of(writer, command)) == 1
    lease = await writer.begin(command)
    assert (lease.attempt, lease.seq) == (2, 2)
    await writer.end(lease, command.reply_id, "", after=lease.seq)
    await archive_now(writer, engine)
    [records] = (await archive(engine)).values()
    check_thread_history(records)
    assert await read_model(engine) == expected_read_model({command.thread_id: records})


async def test_a_thread_without_its_beginning_is_gone(writer: Writer, engine: AsyncEngine) -> None:
    whole = await writer.chat()
    await archive_now(writer, engine)
    torn = await writer.ask()
    await hold(writer, torn.thread_id)
    await writer.begin(torn)
    await archive_now(writer, engine)
    assert torn.thread_id in await archive(engine)
    await writer.redis.flushall()
    await restore_with(engine, writer.redis).closed_partitions()
    assert list(await archive(engine)) == [whole.thread_id]
    assert list((await read_model(engine))["threads"]) == [whole.thread_id]
    assert await commands_of(writer, torn) == []


async def test_what_redis_has_fills_the_hole(
    writer: Writer, engine: AsyncEngine, valkey_server: Server
) -> None:
    """It was lost behind it: whoever takes the batch over finds it in the log."""
    command = await writer.ask()
    lease = await writer.begin(command)
    await archive_now(writer, engine)
    last = await writer.say(lease, ["held"])
    await hold(writer, command.thread_id)
    then = moment(valkey_server)
    await writer.say(lease, ["archived"], after=last)
    await archive_now(writer, engine)
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    records = await writer.records(command.thread_id)
    assert [record.position for record in records] == [1, 2, 3, 4, 5]
    assert (await archive(engine))[command.thread_id] == records[:3] + records[4:]


@pytest.mark.parametrize("thread", ["new", "known"])
async def test_nor_is_anything_put_back_whose_question_is_not_archived(
    thread: str, writer: Writer, engine: AsyncEngine, valkey_server: Server
) -> None:
    """Redis still has the question, and gives out again what it has lost behind it."""
    known = await writer.chat() if thread == "known" else None
    await archive_now(writer, engine)
    command = await writer.ask(known.thread_id if known else None)
    await hold(writer, command.thread_id)
    lease = await writer.begin(command)
    await archive_now(writer, engine)
    then = moment(valkey_server)
    await writer.end(lease, command.reply_id, "", after=lease.seq)
    await archive_now(writer, engine)
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    last = await writer.say(lease, ["another"])
    await writer.end(lease, command.reply_id, "another", after=last)
    await archive_now(writer, engine)
    records = await writer.records(command.thread_id)
    held = [record.position for record in records if record.type in QUESTION][-len(QUESTION) :]
    archived = (await archive(engine))[command.thread_id]
    assert archived == [r for r in records if r.position not in held[known is not None :]]


async def test_an_attempt_whose_beginning_is_not_archived_keeps_its_number(
    writer: Writer, engine: AsyncEngine, valkey_server: Server
) -> None:
    command = await writer.ask()
    await archive_now(writer, engine)
    lease = await writer.begin(command)
    await hold(writer, command.thread_id)
    then = moment(valkey_server)
    last = await writer.say(lease, ["archived"])
    await archive_now(writer, engine)
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    job = await writer.redis.hgetall(writer.keys(command.thread_id).job(command.job_id))
    assert (job[b"attempt"], job[b"seq"]) == (b"1", str(last).encode())
    last = await writer.say(lease, ["more"], after=last)
    await writer.end(lease, command.reply_id, "archived more", after=last)


class InterruptedRestore(Restore):
    """Redis loses everything just when it is known that it fills the hole."""

    async def _threads_of(self, archive: AsyncConnection, closed: Collection[int]) -> list[str]:
        await self._redis.flushall()
        return await super()._threads_of(archive, closed)


async def test_a_hole_that_redis_no_longer_fills_is_not_built_on(
    writer: Writer, engine: AsyncEngine
) -> None:
    command = await writer.ask()
    lease = await writer.begin(command)
    await archive_now(writer, engine)
    last = await writer.say(lease, ["held"])
    await hold(writer, command.thread_id)
    await writer.say(lease, ["archived", "too"], after=last)
    await archive_now(writer, engine)
    for partition in range(PARTITIONS):
        await cast("Any", writer.redis).hdel(PartitionKeys(partition).meta, "verified")
    retention = Retention(writer.redis, idle_ttl_seconds=TTL_SECONDS)
    interrupted = InterruptedRestore(engine, writer.redis, PARTITIONS, retention)
    with pytest.raises(LogUnavailable):
        await interrupted.closed_partitions()
    await restore_with(engine, writer.redis).closed_partitions()
    lease = await writer.begin(command)
    assert (lease.attempt, lease.seq) == (2, 2)
    await writer.end(lease, command.reply_id, "", after=lease.seq)
    await archive_now(writer, engine)
    [records] = (await archive(engine)).values()
    check_thread_history(records)
