"""A single job, or its command, is gone from Redis: it is taken up again, once."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister import restore as restoring
from services.persister.restore import Restore
from shared.codec import decode_command
from shared.commands import RunJob
from shared.event_log import EventLog
from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.redis_client import Redis
from shared.retention import Retention
from shared.settings import Settings
from tests.integration.persister.losing import (
    archive_now,
    command_entries,
    commands_of,
    image,
    restore_with,
)
from tests.integration.persister.running import eventually, running
from tests.integration.persister.writer import PARTITIONS, TTL_SECONDS, Writer


async def lose_hash(writer: Writer, command: RunJob) -> None:
    await writer.redis.delete(writer.keys(command.thread_id).job(command.job_id))


async def lose_command(writer: Writer, command: RunJob) -> None:
    [entry] = await commands_of(writer, command)
    await writer.redis.xdel(writer.keys(command.thread_id).commands, entry)


async def lose_commands(writer: Writer, command: RunJob) -> None:
    await writer.redis.delete(writer.keys(command.thread_id).commands)
    await writer.prepare()


LOSSES = [lose_hash, lose_command, lose_commands]


async def run_all(writer: Writer) -> None:
    """What workers do: run every new command, then those whose lease is over."""
    for partition in range(PARTITIONS):
        stream = PartitionKeys(partition).commands
        reply: Any
        while reply := await writer.redis.xreadgroup(ORCHESTRATORS, "w", {stream: ">"}, count=1):
            await run_entry(writer, *reply[0][1][0])
        reply = await writer.redis.xautoclaim(stream, ORCHESTRATORS, "w", 0, "0-0")
        for entry_id, fields in reply[1]:
            await run_entry(writer, entry_id, fields)


async def run_entry(writer: Writer, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
    command = decode_command(fields[b"d"])
    assert isinstance(command, RunJob)
    begun = await EventLog(writer.redis, PARTITIONS).begin_attempt(
        command, entry_id=entry_id.decode(), consumer="w", attempts_max=3, model="m"
    )
    if begun.lease is not None:
        await writer.end(begun.lease, command.reply_id, "", after=begun.lease.seq)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
async def test_it_is_taken_up_again_once(
    writer: Writer, engine: AsyncEngine, lose: Any, begun: bool
) -> None:
    command = await writer.ask()
    if begun:
        await writer.begin(command)
    waiting = await writer.ask(command.thread_id)
    await archive_now(writer, engine)
    await lose(writer, command)
    restore = restore_with(engine, writer.redis)
    await restore.forgotten_jobs()
    given = await command_entries(writer.redis)
    name = writer.keys(command.thread_id).job(command.job_id)
    entry = await writer.redis.hget(name, "entry")  # pyright: ignore[reportGeneralTypeIssues]
    assert entry == (await commands_of(writer, command))[-1]
    assert await commands_of(writer, waiting) == []
    await restore.forgotten_jobs()
    assert await command_entries(writer.redis) == given
    await run_all(writer)
    types = [r.type for r in await writer.records(command.thread_id) if r.stream == command.job_id]
    assert types == ["started"] * (1 + begun) + ["done"]
    assert await command_entries(writer.redis) == [[] for _ in range(PARTITIONS)]


async def test_what_is_not_forgotten_is_left_alone(writer: Writer, engine: AsyncEngine) -> None:
    commands = [await writer.ask() for _ in range(3)]
    commands.append(await writer.ask(commands[0].thread_id))
    await archive_now(writer, engine)
    before = await image(writer, commands), await command_entries(writer.redis)
    await restore_with(engine, writer.redis).forgotten_jobs()
    assert (await image(writer, commands), await command_entries(writer.redis)) == before


async def test_what_redis_knows_better_stays(writer: Writer, engine: AsyncEngine) -> None:
    command = await writer.ask()
    lease = await writer.begin(command)
    await archive_now(writer, engine)
    last = await writer.say(lease, ["not", "archived"])
    await lose_command(writer, command)
    await restore_with(engine, writer.redis).forgotten_jobs()
    assert len(await commands_of(writer, command)) == 1
    await writer.end(lease, command.reply_id, "", after=last)
    assert await commands_of(writer, command) == []


class LateRestore(Restore):
    """Between its look into the archive and the one into Redis something happens."""

    def __init__(self, engine: AsyncEngine, redis: Redis, happening: Any) -> None:
        retention = Retention(redis, idle_ttl_seconds=TTL_SECONDS)
        super().__init__(engine, redis, PARTITIONS, retention)
        self._happening = happening
        self.lost = list[str]()

    async def _lost_of(self, job_ids: list[str]) -> list[str]:
        await self._happening()
        self.lost = await super()._lost_of(job_ids)
        return self.lost


@pytest.mark.parametrize("all_is_let_go", [True, False])
async def test_a_job_that_has_ended_meanwhile_is_not_taken_up_again(
    writer: Writer, engine: AsyncEngine, all_is_let_go: bool
) -> None:
    command = await writer.ask()
    lease = await writer.begin(command)
    await archive_now(writer, engine)
    keys = writer.keys(command.thread_id)

    async def end() -> None:
        await writer.end(lease, command.reply_id, "", after=lease.seq)
        await archive_now(writer, engine)
        await writer.redis.delete(keys.job(command.job_id))
        if all_is_let_go:
            thread_id = command.thread_id
            await writer.redis.delete(keys.thread(thread_id), keys.thread_events(thread_id))

    restore = LateRestore(engine, writer.redis, end)
    await restore.forgotten_jobs()
    assert restore.lost == [command.job_id]
    assert await commands_of(writer, command) == []
    assert not await writer.redis.exists(keys.job(command.job_id))


async def test_a_persister_looks_from_time_to_time(
    writer: Writer, settings: Settings, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(restoring, "LOOKS_PER_RECONCILIATION", 3)
    command = await writer.ask()
    await archive_now(writer, engine)
    async with running(settings):
        for _ in range(2):
            await lose_command(writer, command)

            async def is_back() -> bool:
                return len(await commands_of(writer, command)) == 1

            await eventually(is_back)
