"""What real workers and persisters gave up on, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
import re

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.event_log import EventLog
from shared.events import ThreadDeleted
from shared.keys import PartitionKeys
from shared.redis_client import Redis
from shared.repeat_job import REPEATS
from shared.times import utc_now
from tests.integration.console.desk import Desk
from tests.integration.console.program import Program
from tests.integration.orchestrator.workers import NO_DATABASE
from tests.integration.persister.running import eventually, is_consumed, running, settings_for
from tests.integration.persister.tables import archive
from tests.integration.persister.writer import PARTITIONS, USER

OPERATORS = 4


async def test_a_dead_job_is_listed_shown_and_asked_again(desk: Desk) -> None:
    command = await desk.failed_job()
    letter_id = await desk.only()
    end = (await desk.job(command.job_id)).done
    listed = await desk()
    assert listed.code == 0
    assert re.fullmatch(
        rf"{letter_id} +job +[0-9]+ s  {command.job_id}  {command.thread_id}  attempts_exhausted\n",
        listed.output,
    )
    shown = await desk("show", letter_id)
    assert shown.code == 0
    rows = dict(line.split(maxsplit=1) for line in shown.output.replace("· ", "").splitlines())
    assert (rows["kind"], rows["j"], rows["h"]) == ("job", command.job_id, command.thread_id)
    retried = await desk("retry", letter_id)
    assert (retried.code, retried.errors) == (0, "")
    told = rf"{letter_id} {command.job_id} asked again: (job_\w+) in {command.thread_id}\n"
    found = re.fullmatch(told, retried.output)
    assert found
    async with desk.worker():
        job = await desk.ended(found[1])
    assert (job.status, job.owner, job.thread_id) == ("done", USER, command.thread_id)
    first, again = await desk.asked(command.thread_id)
    assert again["metadata"] == {"page": 3, REPEATS: command.job_id}
    same = ("content", "user", "agent", "session_id")
    assert {name: again[name] for name in same} == {name: first[name] for name in same}
    assert again["trace_id"] != first["trace_id"]
    assert (await desk.job(command.job_id)).done == end
    gone = await desk("retry", letter_id)
    assert (gone.code, gone.output) == (1, "")
    assert gone.errors == f"there is no letter {letter_id}, or no more\n"


async def test_a_question_that_only_the_archive_has(
    desk: Desk, redis_url: str, database_url: str
) -> None:
    command = await desk.failed_job("wo?\0 \u2028")
    keys = desk.writer.keys(command.thread_id)
    async with running(settings_for(redis_url, database_url, name="p")):
        await eventually(lambda: is_consumed(desk.redis))
    names = [keys.thread(command.thread_id), keys.thread_events(command.thread_id)]
    assert await desk.redis.delete(*names, keys.job(command.job_id)) == 3  # idle for long enough
    retried = await desk("retry", "--all")
    assert retried.code == 0, retried.errors
    async with desk.worker():
        job = await desk.ended(retried.output.split()[4])
    assert job.status == "done"
    [again] = await desk.asked(command.thread_id)
    assert again["content"] == "wo?\0 \u2028"
    positions = [record.position for record in await desk.writer.records(command.thread_id)]
    assert positions == list(range(job.first, job.first + len(positions)))
    assert job.first > 2  # behind what is archived


async def test_many_operators_ask_once(desk: Desk) -> None:
    command = await desk.failed_job()
    letter_id = await desk.only()
    tries = [desk("retry", letter_id) for _ in range(OPERATORS - 1)]
    ran = await asyncio.gather(*tries, desk("retry", "--all"))
    assert sum("asked again" in one.output for one in ran) == 1
    assert len(await desk.asked(command.thread_id)) == 2
    assert await desk.letters() == 0


async def test_a_job_that_cannot_be_asked_again_stays(desk: Desk) -> None:
    deleted = await desk.failed_job()
    await desk.writer.change(ThreadDeleted(thread_id=deleted.thread_id, at=utc_now()))
    await desk.written(*f"kind job j job_00{'0' * 32} h thr_x reason r at now".split())
    await desk.written(*f"kind job j {deleted.thread_id} h thr_x reason r at now".split())
    ran = await desk("retry", "--all")
    assert (ran.code, ran.output) == (1, "")
    assert sorted(line.split(": ", 1)[1] for line in ran.errors.splitlines()) == [
        "it names no job of its partition",
        "its thread is deleted",
        "neither Redis nor the archive knows its job",
    ]
    assert await desk.letters() == 3


async def test_a_full_queue_keeps_the_letter(desk: Desk, program: Program) -> None:
    program.env["HEADWATER_QUEUE_PER_THREAD_MAX"] = "1"
    command = await desk.failed_job()
    for _ in range(2):
        await desk.writer.ask(command.thread_id)
    ran = await desk("retry", "--all")
    assert ran.code == 1
    assert ran.errors.endswith(" stays: Too many messages are waiting in this thread.\n")
    assert await desk.letters() == 1


async def test_a_command_of_a_job_that_is_back_is_answered(desk: Desk) -> None:
    """Redis did not know the job when a worker asked."""
    command = await desk.writer.ask()
    job = desk.writer.keys(command.thread_id).job(command.job_id)
    away = job.replace(command.job_id, "away")
    await desk.redis.rename(job, away)
    async with desk.worker():
        await desk.has_letters(1)
        await desk.redis.rename(away, job)
        letter_id = await desk.only()
        listed = (await desk()).output.split()
        assert listed[1] == "command"
        assert command.job_id in listed
        assert command.thread_id in listed
        ran = await desk("retry", letter_id)
        assert (ran.code, ran.errors) == (0, "")
        assert re.fullmatch(
            rf"{letter_id} command put back into the commands as [0-9]+-[0-9]+\n", ran.output
        )
        assert (await desk.ended(command.job_id)).status == "done"
    assert await desk.letters() == 0


async def test_a_command_whose_job_is_over_is_harmless(desk: Desk, redis: Redis) -> None:
    command = await desk.writer.ask()
    keys = desk.writer.keys(command.thread_id)
    job, away = keys.job(command.job_id), keys.job("away")
    await desk.redis.rename(job, away)
    async with desk.worker():
        await desk.has_letters(1)
        await desk.redis.rename(away, job)
        log = EventLog(redis, PARTITIONS)
        assert await log.request_cancel(command.job_id, command.thread_id) == "cancelled"
        before = await desk.writer.records(command.thread_id)
        assert (await desk("retry", "--all")).code == 0

        async def is_gone() -> bool:
            return await desk.redis.xlen(keys.commands) == 0

        await eventually(is_gone)
    assert await desk.letters() == 0
    assert await desk.writer.records(command.thread_id) == before


async def test_what_is_no_command_comes_back_once(desk: Desk) -> None:
    await desk.redis.xadd(PartitionKeys(1).commands, {"d": b"\xff no command"})
    async with desk.worker():
        await desk.has_letters(1)
        first = await desk.only()
        ran = await desk("retry", "--all")
        assert ran.code == 0
        assert len(ran.output.splitlines()) == 1
        await desk.has_letters(1)
        second = await desk.only()
        assert second != first
        dropped = await desk("drop", second)
        assert (dropped.code, dropped.output) == (0, "1 dropped\n")
    assert (await desk()).output == "none\n"


async def test_an_event_that_postgres_refused_closes_its_hole(
    desk: Desk, engine: AsyncEngine, redis_url: str, database_url: str
) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text("ALTER TABLE events ADD CONSTRAINT odd CHECK (type <> 'token' OR seq <> 3)")
        )
    command = await desk.writer.chat()
    thread = desk.writer.keys(command.thread_id).thread(command.thread_id)
    async with running(settings_for(redis_url, database_url, name="p")):
        await eventually(lambda: is_consumed(desk.redis))
        letter_id = await desk.only()
        shown = json.loads((await desk("show", letter_id, "--json")).output)
        assert (shown["kind"], shown["job_id"], shown["thread_id"]) == (
            "event",
            command.job_id,
            command.thread_id,
        )
        assert shown["reason"] == "Postgres refuses it: CheckViolation 23514"
        assert await desk.redis.ttl(thread) == -1
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE events DROP CONSTRAINT odd"))
        ran = await desk("retry", letter_id)
        assert (ran.code, ran.errors) == (0, "")

        async def is_whole() -> bool:
            return await desk.redis.ttl(thread) > 0

        await eventually(is_whole)
    assert await desk.letters() == 0
    records = await desk.writer.records(command.thread_id)
    assert (await archive(engine))[command.thread_id] == records


async def test_stores_that_are_away_are_told(desk: Desk, program: Program) -> None:
    command = await desk.failed_job()
    keys = desk.writer.keys(command.thread_id)
    await desk.redis.delete(keys.thread(command.thread_id), keys.job(command.job_id))
    program.env["HEADWATER_DATABASE_URL"] = NO_DATABASE
    ran = await desk("retry", "--all")
    assert (ran.code, ran.output) == (1, "")
    assert ran.errors == "Postgres is unavailable: OperationalError\n"
    assert await desk.letters() == 1
