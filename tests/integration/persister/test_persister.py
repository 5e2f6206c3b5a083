"""A running persister: what it takes from the log, leaves in Postgres and lets go in Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister import app
from services.persister.rounds import REST_SECONDS
from shared.events import ThreadDeleted, ThreadUpdated
from shared.keys import PERSISTERS, PartitionKeys
from shared.redis_client import Redis
from shared.settings import Settings
from shared.times import utc_now
from tests.integration.persister.dividing import look
from tests.integration.persister.observing import assert_archived, expiring, pending
from tests.integration.persister.running import (
    LEASE_SECONDS,
    eventually,
    is_consumed,
    running,
)
from tests.integration.persister.tables import archive, read_model
from tests.integration.persister.writer import PARTITIONS, USER, Writer

DRAIN_SECONDS_MAX = 2.0
FAILED_SECONDS_MAX = 5.0
TRICKLE_TOKENS = 300
IDLE_MS = 60_000
CHAT_EVENTS = 7  # thread.created, message.posted, started, three tokens, done


async def deliver_to_the_dead(redis: Redis) -> int:
    """A persister that read all there was, and died with it a while ago; how many entries."""
    for log in (PartitionKeys(partition).log for partition in range(PARTITIONS)):
        reply: Any = await redis.xreadgroup(PERSISTERS, "dead", {log: ">"}, count=10_000)
        for _, entries in reply:
            ids = [entry_id for entry_id, _ in entries]
            await redis.xclaim(log, PERSISTERS, "dead", 0, ids, idle=IDLE_MS, justid=True)
    return len(await pending(redis))


async def test_a_backlog_and_what_follows_are_archived(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    first = await writer.chat()
    async with running(settings):
        await eventually(lambda: is_consumed(writer.redis))
        await writer.chat(["x"] * 1500)
        second = await writer.ask(first.thread_id)
        await writer.change(ThreadUpdated(thread_id=first.thread_id, at=utc_now(), title="second"))
        await writer.answer(second, ["y"])
        await eventually(lambda: assert_archived(writer, engine))
        await eventually(lambda: is_consumed(writer.redis))
    thread = (await read_model(engine))["threads"][first.thread_id]
    assert (thread["title"], thread["owner"], thread["status"]) == ("second", "alice", "active")


async def test_the_checkpoint_is_the_last_entry(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    command = await writer.chat()
    log = writer.keys(command.thread_id).log
    stream: Any = await writer.redis.xinfo_stream(log)
    async with running(settings):
        await eventually(lambda: is_consumed(writer.redis))
    query = text("SELECT log_ms || '-' || log_n, event_count FROM checkpoints")
    async with engine.connect() as connection:
        assert (await connection.execute(query)).all() == [
            (stream["last-generated-id"].decode(), stream["length"])
        ]


async def test_redis_lets_go_of_what_is_archived_whole(writer: Writer, settings: Settings) -> None:
    over, still_running = await writer.chat(), await writer.ask()
    await writer.say(await writer.begin(still_running), ["a"])
    assert await expiring(writer, over) == [False] * 3
    async with running(settings):
        await eventually(lambda: is_consumed(writer.redis))
    assert await expiring(writer, over) == [True] * 3
    assert await expiring(writer, still_running) == [False] * 3
    thread = writer.keys(over.thread_id).thread(over.thread_id)
    assert await writer.redis.hget(thread, "state") == b"ACTIVE"
    assert await writer.redis.smembers(writer.keys(over.thread_id).dirty(USER)) == set()


async def test_redis_keeps_a_thread_until_nothing_is_missing_in_front(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    """The beginning is with a persister that has died; the end is archived before it."""
    command = await writer.ask()
    lease = await writer.begin(command)
    assert await deliver_to_the_dead(writer.redis) == 3
    last = await writer.say(lease, ["a"])
    await writer.end(lease, command.reply_id, "a", after=last)

    async def only_the_end_is_archived() -> bool:
        return [r.position for r in (await archive(engine)).get(command.thread_id, [])] == [4, 5]

    patient = settings.model_copy(update={"lease_seconds": 3600.0})
    async with running(patient):
        await eventually(only_the_end_is_archived)
        await eventually(lambda: _settled(writer.redis, 3))
        assert await expiring(writer, command) == [False] * 3
        assert await writer.redis.xlen(writer.keys(command.thread_id).log) == 5, "trimmed ahead"
    async with running(settings):
        await eventually(lambda: is_consumed(writer.redis))
    assert await expiring(writer, command) == [True] * 3
    await assert_archived(writer, engine)


async def _settled(redis: Redis, count: int) -> bool:
    return len(await pending(redis)) == count


async def test_the_log_is_cut_behind_the_persisters(
    writer: Writer, settings: Settings, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "TRIM_SECONDS", 0.05)
    commands = [await writer.chat() for _ in range(4)]
    logs = {writer.keys(command.thread_id).log for command in commands}

    async def cut() -> bool:
        return [await writer.redis.xlen(log) for log in logs] == [1] * len(logs)

    async with running(settings):
        await eventually(cut)
    await assert_archived(writer, engine)


async def test_a_deleted_thread_ends_as_deleted(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    first, second = await writer.ask(), await writer.ask()
    waiting = await writer.ask(second.thread_id)
    for command in (first, second):
        await writer.change(ThreadDeleted(thread_id=command.thread_id, at=utc_now()))
        await writer.answer(command, ["late"])
    async with running(settings):
        await eventually(lambda: is_consumed(writer.redis))
    await assert_archived(writer, engine)
    rows = await read_model(engine)
    assert rows["jobs"][waiting.job_id]["status"] == "cancelled"
    assert rows["messages"][waiting.reply_id]["role"] is None, "nobody began it: no message"
    for command in (first, second):
        assert rows["threads"][command.thread_id]["deleted_at"] is not None
        thread = writer.keys(command.thread_id).thread(command.thread_id)
        assert await writer.redis.hget(thread, "state") == b"DELETED"


async def test_abandoned_entries_are_taken_over_in_one_batch(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    command = await writer.chat(["x"] * 300)
    await look(engine)  # a part that is made later takes rows along
    assert await deliver_to_the_dead(writer.redis) == 304
    await look(engine)  # making a period moves what is in it
    async with running(settings):
        await eventually(lambda: is_consumed(writer.redis))
    await assert_archived(writer, engine)
    transactions = text("SELECT count(DISTINCT xmin::text) FROM events WHERE thread_id = :thread")
    async with engine.connect() as connection:
        assert await connection.scalar(transactions, {"thread": command.thread_id}) == 1


async def test_a_trickle_is_gathered(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    """Tokens come one by one; a transaction for each would cost fifty times as much."""
    command = await writer.ask()
    lease = await writer.begin(command)
    loop = asyncio.get_running_loop()
    async with running(settings):
        begun, last = loop.time(), lease.seq
        for _ in range(TRICKLE_TOKENS):
            last = await writer.say(lease, ["x"], after=last)
        seconds = loop.time() - begun
        await eventually(lambda: is_consumed(writer.redis))
    transactions = text("SELECT count(DISTINCT xmin::text) FROM events")
    async with engine.connect() as connection:
        count = await connection.scalar(transactions)
    assert count <= seconds / REST_SECONDS + 3, "one before, one after, one cut off"
    await assert_archived(writer, engine)


async def test_two_persisters_share_the_log(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    other = settings.model_copy(update={"consumer_name": "persister-2"})
    command, texts = await writer.ask(), ["x"] * 40
    async with running(settings), running(other):
        lease = await writer.begin(command)
        last = lease.seq
        for _ in range(40):
            last = await writer.say(lease, texts, after=last)
        await writer.end(lease, command.reply_id, "x" * 1600, after=last)
        await eventually(lambda: is_consumed(writer.redis))
    await assert_archived(writer, engine)
    assert await expiring(writer, command) == [True] * 3


async def test_a_held_batch_is_not_taken_over(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    """Postgres makes a batch wait for several leases; the holder lives, so nobody else tries."""
    await writer.chat()
    other = settings.model_copy(update={"consumer_name": "persister-2"})
    async with engine.connect() as connection:
        await connection.execute(text("LOCK TABLE threads"))
        async with running(settings):
            await eventually(lambda: _settled(writer.redis, CHAT_EVENTS))
            holders = await pending(writer.redis)
            async with running(other):
                loop = asyncio.get_running_loop()
                until = loop.time() + 4 * LEASE_SECONDS
                while loop.time() < until:
                    assert await pending(writer.redis) == holders
                await connection.rollback()
                await eventually(lambda: is_consumed(writer.redis))
    await assert_archived(writer, engine)
