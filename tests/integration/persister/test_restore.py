"""Redis loses the end of what it acknowledged; what the archive has of it comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister import archived_threads
from services.persister import restore as restoring
from services.persister.restore import LOCK_KEY
from shared.continuity import Continuity
from shared.errors import ArchiveUnavailable, LogUnavailable
from shared.events import ThreadDeleted, ThreadUpdated
from shared.keys import PartitionKeys
from shared.redis_client import Redis, connect
from shared.redis_scripts import Call, run
from shared.settings import Settings
from shared.times import utc_now
from tests.integration.persister.losing import (
    archive_by_persister,
    archive_now,
    changes,
    command_entries,
    commands_of,
    image,
    restore_with,
)
from tests.integration.persister.running import eventually, running
from tests.integration.persister.tables import archive
from tests.integration.persister.writer import PARTITIONS, Writer
from tests.support.append_only_file import lose_since, moment
from tests.support.servers import Server

ALL = list(range(PARTITIONS))
TOKENS = 450  # more than fit into two calls


async def closed(writer: Writer) -> list[int]:
    return await Continuity(writer.redis, PARTITIONS).closed()


async def test_what_was_archived_is_as_it_was(
    writer: Writer, settings: Settings, engine: AsyncEngine, valkey_server: Server
) -> None:
    ended, renamed, running_one = await writer.chat(), await writer.chat(), await writer.ask()
    lease = await writer.begin(running_one)
    await archive_by_persister(writer, settings)
    then = moment(valkey_server)
    said = await writer.say(lease, ["x"] * TOKENS)
    await writer.answer(again := await writer.ask(ended.thread_id), ["a", "b"])
    change = ThreadUpdated(
        thread_id=renamed.thread_id, at=utc_now(), title="second", metadata={"é": "𝄞"}
    )
    await writer.change(change)
    waiting, queued = await writer.ask(running_one.thread_id), await writer.ask(renamed.thread_id)
    await archive_by_persister(writer, settings)
    commands = [ended, renamed, running_one, again, waiting, queued]
    before = await image(writer, commands)
    lose_since(valkey_server, then)
    assert await closed(writer) == ALL
    assert changes(before, await image(writer, commands))
    await restore_with(engine, writer.redis).closed_partitions()
    assert changes(before, await image(writer, commands)) == {}
    assert await closed(writer) == []
    assert [len(await commands_of(writer, each)) for each in commands] == [0, 0, 1, 0, 0, 1]
    await writer.say(lease, ["y"], after=said)  # `started` was not lost: the right is as it was


async def test_a_waiting_job_starts_when_its_predecessors_end_is_restored(
    writer: Writer, settings: Settings, engine: AsyncEngine, valkey_server: Server
) -> None:
    first = await writer.ask()
    second, third = [await writer.ask(first.thread_id) for _ in range(2)]
    lease = await writer.begin(first)
    then = moment(valkey_server)
    await writer.end(lease, first.reply_id, "", after=lease.seq)
    await archive_by_persister(writer, settings)
    before = await image(writer, [first, second, third])
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    assert changes(before, await image(writer, [first, second, third])) == {}
    assert await commands_of(writer, first) == []
    for command in (second, third):
        await writer.answer(command, ["a"])
    assert await command_entries(writer.redis) == [[] for _ in ALL]


async def test_a_job_that_its_threads_deletion_flagged_is_flagged_again(
    writer: Writer, engine: AsyncEngine, valkey_server: Server
) -> None:
    command = await writer.ask()
    await writer.begin(command)
    then = moment(valkey_server)
    await writer.change(ThreadDeleted(thread_id=command.thread_id, at=utc_now()))
    await archive_now(writer, engine)
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    found = await image(writer, [command])
    assert found[command.job_id]["hash"][b"cancel"] == b"1"
    assert found[command.thread_id]["hash"][b"state"] == b"DELETED"


async def test_whose_an_attempt_is_must_be_proved(
    writer: Writer, engine: AsyncEngine, valkey_server: Server
) -> None:
    """Of one that Redis had lost; the token of another would be its predecessor's."""
    command = await writer.ask()
    then = moment(valkey_server)
    await writer.begin(command)
    await archive_now(writer, engine)
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    found = await image(writer, [command])
    assert found[command.job_id]["hash"][b"owner_token"] == b""


async def test_a_call_whose_reply_is_lost_is_harmless(
    writer: Writer,
    settings: Settings,
    engine: AsyncEngine,
    valkey_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = await writer.ask()
    then = moment(valkey_server)
    await writer.say(await writer.begin(command), ["a", "b"])
    waiting = await writer.ask(command.thread_id)
    await archive_by_persister(writer, settings)
    before = await image(writer, [command, waiting])
    lose_since(valkey_server, then)

    async def twice(redis: Redis, call: Call) -> Any:
        first = await run(redis, call)
        assert await run(redis, call) == [0, 0]
        return first

    monkeypatch.setattr(restoring, "run", twice)
    await restore_with(engine, writer.redis).closed_partitions()
    assert changes(before, await image(writer, [command, waiting])) == {}
    assert len(await commands_of(writer, command)) == 1


async def test_a_second_restore_changes_nothing(
    writer: Writer, engine: AsyncEngine, valkey_server: Server
) -> None:
    then = moment(valkey_server)
    commands = [await writer.chat(), await writer.ask()]
    commands.append(await writer.ask(commands[-1].thread_id))
    await archive_now(writer, engine)
    lose_since(valkey_server, then)
    restore = restore_with(engine, writer.redis)
    await restore.closed_partitions()
    before = await image(writer, commands), await command_entries(writer.redis)
    for partition in ALL:
        await writer.redis.hdel(PartitionKeys(partition).meta, "verified")  # pyright: ignore[reportGeneralTypeIssues]
    await restore.closed_partitions()
    assert (await image(writer, commands), await command_entries(writer.redis)) == before
    assert await closed(writer) == []


async def test_two_persisters_at_once_restore_it_once(
    writer: Writer, engine: AsyncEngine, redis_url: str, valkey_server: Server
) -> None:
    then = moment(valkey_server)
    commands = [await writer.ask() for _ in range(10)]
    await archive_now(writer, engine)
    lose_since(valkey_server, then)
    clients = [connect(redis_url) for _ in range(2)]
    restores = [restore_with(engine, client) for client in clients]
    await asyncio.gather(*(restore.closed_partitions() for restore in restores))
    assert await closed(writer) == []
    assert [len(await commands_of(writer, command)) for command in commands] == [1] * 10
    for client in clients:
        await client.aclose()


async def test_only_who_has_the_lock_restores(
    writer: Writer, engine: AsyncEngine, valkey_server: Server
) -> None:
    then = moment(valkey_server)
    command = await writer.ask()
    await archive_now(writer, engine)
    lose_since(valkey_server, then)
    restore = restore_with(engine, writer.redis)
    async with engine.connect() as other:
        await other.execute(text(f"SELECT pg_advisory_xact_lock({LOCK_KEY})"))
        await restore.closed_partitions()
        assert await closed(writer) == ALL
        assert await commands_of(writer, command) == []
    await restore.closed_partitions()
    assert await closed(writer) == []


async def test_partitions_stay_closed_while_postgres_is_away(
    writer: Writer,
    settings: Settings,
    engine: AsyncEngine,
    valkey_server: Server,
    postgres_server: Server,
) -> None:
    then = moment(valkey_server)
    command = await writer.ask()
    await archive_now(writer, engine)
    restore = restore_with(engine, writer.redis)
    with postgres_server.away():
        lose_since(valkey_server, then)
        with pytest.raises(ArchiveUnavailable):
            await restore.closed_partitions()
        assert await closed(writer) == ALL
        with pytest.raises(LogUnavailable):
            await writer.ask()
    async with running(settings):  # finds out by itself

        async def are_open() -> bool:
            return await closed(writer) == []

        await eventually(are_open)
    assert len(await commands_of(writer, command)) == 1


async def test_what_was_not_archived_is_gone_and_nothing_else(
    writer: Writer, engine: AsyncEngine, valkey_server: Server
) -> None:
    kept, half = await writer.chat(), await writer.ask()
    lease = await writer.begin(half)
    then = moment(valkey_server)
    last = await writer.say(lease, ["archived"])
    await archive_now(writer, engine)
    await writer.say(lease, ["not archived"], after=last)
    gone = await writer.chat()
    await writer.ask(kept.thread_id)
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    rows = await archive(engine)
    assert {each: await writer.records(each) for each in rows} == rows
    found = await image(writer, [gone])
    assert not any(found[gone.job_id].values())
    assert not any(found[gone.thread_id].values())
    assert set(rows) == {kept.thread_id, half.thread_id}


async def test_only_threads_of_the_lost_time_are_looked_at(
    writer: Writer,
    engine: AsyncEngine,
    valkey_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = [await writer.chat() for _ in range(3)]
    await archive_now(writer, engine)
    hour_ago = "UPDATE events SET recorded_at = recorded_at - interval '1 hour'"
    async with engine.begin() as connection:
        await connection.execute(text(hour_ago))
    then = moment(valkey_server)
    new = [await writer.chat(), await writer.ask()]
    await archive_now(writer, engine)
    lose_since(valkey_server, then)
    looked_at, look = list[str](), archived_threads.archived_thread

    async def looking(connection: object, thread_id: str) -> object:
        looked_at.append(thread_id)
        return await look(connection, thread_id)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(archived_threads, "archived_thread", looking)
    await restore_with(engine, writer.redis).closed_partitions()
    assert looked_at == sorted(command.thread_id for command in new)
    assert not {command.thread_id for command in old} & set(looked_at)


async def test_nothing_behind_an_old_hole_of_the_archive_is_put_back(
    writer: Writer, engine: AsyncEngine, valkey_server: Server
) -> None:
    other, command = await writer.chat(), await writer.ask()
    lease = await writer.begin(command)
    then = moment(valkey_server)
    await writer.say(lease, ["one", "two", "three"])  # at positions 4, 5 and 6
    await writer.answer(again := await writer.ask(other.thread_id), ["a"])
    await archive_now(writer, engine)
    hole = "DELETE FROM events WHERE thread_id = :thread AND position = 5"
    async with engine.begin() as connection:
        await connection.execute(text(hole), {"thread": command.thread_id})
        await connection.execute(text("UPDATE checkpoints SET log_ms = log_ms + 3600000"))
    whole = await writer.records(other.thread_id)
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    assert await closed(writer) == []
    assert await writer.records(other.thread_id) == whole
    assert [each.position for each in await writer.records(command.thread_id)] == [1, 2, 3, 4]
    found = await image(writer, [command, again])
    assert found[again.job_id]["hash"][b"status"] == b"done"
    assert found[command.job_id]["hash"][b"seq"] == b"2"
    assert found[command.thread_id]["hash"][b"position"] == b"4"
    assert found[command.thread_id]["leaves"] is False
    await writer.say(lease, ["two"], after=2)
