"""Redis loses events of a worker that is still alive: its buffer and the archive make it whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.orchestrator import appender as appending
from services.orchestrator.appender import Appender
from services.orchestrator.job_writer import JobForgotten, JobWriter, Stop
from shared.cancellation import end_tasks
from shared.commands import RunJob
from shared.event_log import EventLog, Lease
from shared.settings import Settings
from tests.integration.persister.losing import (
    archive_by_persister,
    archive_now,
    commands_of,
    restore_with,
)
from tests.integration.persister.observing import assert_archived
from tests.integration.persister.tables import archive
from tests.integration.persister.writer import PARTITIONS, Writer
from tests.support.append_only_file import Moment, lose_since, moment
from tests.support.event_history import check_thread_history
from tests.support.servers import Server

ACCEPTED, BEGUN, SAID = "accepted", "begun", "said"  # what a job has come to, in this order


@pytest.fixture
async def appender(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Appender]:
    """At work."""
    monkeypatch.setattr(appending, "RETRY_SECONDS", 0.02)
    appender = Appender(EventLog(writer.redis, PARTITIONS))
    loop = asyncio.create_task(appender.run())
    yield appender
    assert not loop.done()
    await end_tasks([loop], seconds_max=1)


class Steps:
    """One job of one worker, step by step; at some steps the world is archived, or remembered."""

    def __init__(
        self, writer: Writer, engine: AsyncEngine, server: Server, *, kept: str, archived: str
    ) -> None:
        self._writer, self._engine, self._server = writer, engine, server
        self._kept, self._archived = kept, archived
        self.then: Moment | None = None

    async def reached(self, step: str) -> None:
        if step == self._archived:
            await archive_now(self._writer, self._engine)
        if step == self._kept:
            self.then = moment(self._server)


async def finish(writer: JobWriter, command: RunJob) -> None:
    await writer.finish(
        "done", content=writer.text, message_id=command.reply_id, latency_ms=0, usage=None
    )


@pytest.mark.parametrize(
    ("kept", "archived"),
    [
        (SAID, SAID),
        (BEGUN, BEGUN),
        (BEGUN, SAID),
        (ACCEPTED, ACCEPTED),  # nobody knows of the attempt
        (ACCEPTED, BEGUN),
        (ACCEPTED, SAID),
    ],
)
async def test_a_live_worker_makes_it_whole(
    writer: Writer,
    settings: Settings,
    engine: AsyncEngine,
    valkey_server: Server,
    appender: Appender,
    kept: str,
    archived: str,
) -> None:
    steps = Steps(writer, engine, valkey_server, kept=kept, archived=archived)
    reasons = list[Stop]()
    command = await writer.ask()
    await steps.reached(ACCEPTED)
    lease: Lease = await writer.begin(command)
    await steps.reached(BEGUN)
    speaker = appender.open(lease, stop=reasons.append)
    speaker.token("one ", 1)
    await speaker.flushed()
    await steps.reached(SAID)
    for text in ("two ", "three "):
        speaker.token(text, 1)
        await speaker.flushed()
    assert steps.then is not None
    lose_since(valkey_server, steps.then)
    speaker.token("four", 1)  # is put off
    await restore_with(engine, writer.redis).closed_partitions()
    await finish(speaker, command)
    assert reasons == []
    await archive_by_persister(writer, settings)
    await assert_archived(writer, engine)
    records = await writer.records(command.thread_id)
    check_thread_history(records)
    assert [record.seq for record in records if record.stream == command.job_id] == [*range(1, 7)]
    assert await commands_of(writer, command) == []


async def test_a_worker_whose_heartbeat_has_a_doubt_asks_though_it_has_nothing_to_say(
    writer: Writer, engine: AsyncEngine, valkey_server: Server, appender: Appender
) -> None:
    command = await writer.ask()
    then = moment(valkey_server)
    speaker = appender.open(await writer.begin(command), stop=lambda _: None)
    await archive_now(writer, engine)
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    name = writer.keys(command.thread_id).job(command.job_id)
    assert await writer.redis.hget(name, "owner_token") == b""  # pyright: ignore[reportGeneralTypeIssues]
    speaker.contest()
    await finish(speaker, command)
    assert [r.type for r in await writer.records(command.thread_id)][-2:] == ["started", "done"]


async def test_a_job_that_nobody_knows_is_told_to_its_worker(
    writer: Writer, engine: AsyncEngine, valkey_server: Server, appender: Appender
) -> None:
    reasons = list[Stop]()
    then = moment(valkey_server)
    command = await writer.ask()
    speaker = appender.open(await writer.begin(command), stop=reasons.append)
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    speaker.token("x", 1)
    with pytest.raises(JobForgotten):
        await speaker.flushed()
    assert reasons == [Stop.FORGOTTEN]
    assert await archive(engine) == {}
