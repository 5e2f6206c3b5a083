"""The archive in parts: each event has one place, and parts come and go unnoticed."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.periods import DAY_MS, Period, birth, missing_periods
from services.persister.rebuild import rebuild
from shared.archive import Archive
from shared.errors import DeploymentError
from shared.keys import PERSISTERS
from tests.integration.persister.dividing import (
    LATER_MS,
    NOW_MS,
    PERIOD_DAYS,
    archive_again,
    are_made,
    entries,
    look,
    parts,
    places,
)
from tests.integration.persister.losing import archive_now, restore_with
from tests.integration.persister.observing import assert_archived, somebody_waits
from tests.integration.persister.running import eventually
from tests.integration.persister.tables import archive, read_model
from tests.integration.persister.writer import Writer


async def test_what_came_before_its_period_moves_there(writer: Writer, engine: AsyncEngine) -> None:
    await writer.chat()
    logs = await entries(writer)
    await archive_again(engine, logs)
    assert await places(engine) == {"events_lasting": 2, "events_unplaced": 5}
    await look(engine)
    assert await places(engine) == {"events_lasting": 2, "period": 5}
    assert await archive_again(engine, logs) == 0
    await assert_archived(writer, engine)


async def test_a_job_is_looked_for_in_its_own_part(writer: Writer, engine: AsyncEngine) -> None:
    """Also by the text of the query: a collation that differs would have it look everywhere."""
    await look(engine, LATER_MS)
    asked = await writer.chat()
    await archive_now(writer, engine)
    said = list[tuple[str, Any]]()

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        said.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    job = await Archive(engine).job(asked.job_id)
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    assert job is not None
    assert job.done is not None
    [(statement, parameters)] = said
    async with engine.connect() as connection:
        plan = await connection.exec_driver_sql(f"EXPLAIN (COSTS OFF) {statement}", parameters)
        lines = "\n".join(line for (line,) in plan)
    assert len(set(re.findall(r" on (events_\w+)", lines))) == 1, lines


async def test_periods_lie_side_by_side_and_reach_ahead(engine: AsyncEngine) -> None:
    await look(engine)
    first = await parts(engine)
    await look(engine, LATER_MS)
    made = await parts(engine)
    assert made[: len(first)] == first
    assert len(made) > len(first)
    periods = made[1:]
    assert all(one.ends == other.begins for one, other in pairwise(periods))
    assert periods[0].begins < birth(NOW_MS)
    assert periods[-1].ends >= birth(LATER_MS + PERIOD_DAYS * DAY_MS)


async def test_it_is_in_nobodys_way_while_it_waits_for_the_archive(engine: AsyncEngine) -> None:
    """Whoever locks a divided table locks it before its parts: so must it, or both wait."""
    async with engine.connect() as holder:
        await holder.execute(text("LOCK TABLE ONLY events IN EXCLUSIVE MODE"))
        looking = asyncio.create_task(look(engine))
        await eventually(lambda: somebody_waits(engine))
        await holder.execute(text("LOCK TABLE events_unplaced IN EXCLUSIVE MODE"))
        await holder.rollback()
    await looking
    assert await are_made(engine)


def test_a_period_may_get_another_length() -> None:
    known = [Period("events_lasting", "", "0"), Period("events_1", birth(0), birth(NOW_MS))]
    assert [p.ends for p in missing_periods(known, now_ms=NOW_MS, days=1)] == [
        birth(NOW_MS + DAY_MS),
        birth(NOW_MS + 2 * DAY_MS),
    ]


async def test_a_period_is_dropped_whole_and_the_read_model_stays(
    writer: Writer, engine: AsyncEngine
) -> None:
    await look(engine)
    chats = [await writer.chat() for _ in range(3)]
    logs = await entries(writer)
    await archive_again(engine, logs)
    before = await read_model(engine)
    await look(engine, LATER_MS, days=40)
    assert await places(engine) == {"events_lasting": 6}
    assert {kind for records in (await archive(engine)).values() for *_, kind, _ in records} == {
        "thread.created",
        "message.posted",
    }
    assert await read_model(engine) == before
    assert await archive_again(engine, logs) == 0, "what was dropped came back"
    assert await places(engine) == {"events_lasting": 6}
    assert await rebuild(engine, lambda _: None) == [], "a rebuild missed what was dropped"
    assert await read_model(engine) == before

    went_on = await writer.ask(chats[0].thread_id)
    await writer.answer(went_on, ["more"])
    await archive_now(writer, engine)
    assert await rebuild(engine, lambda _: None) == []
    row = (await read_model(engine))["threads"][chats[0].thread_id]
    assert row["event_count"] == row["position"] == 11


async def test_a_rebuild_puts_right_what_events_tell_of_a_settled_job(
    writer: Writer, engine: AsyncEngine
) -> None:
    await look(engine)
    await writer.chat()
    await archive_now(writer, engine)
    right = await read_model(engine)
    await look(engine, LATER_MS, days=40)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE threads SET title = 'wrong', event_count = 1"))
        await connection.execute(text("UPDATE messages SET content = 'wrong' WHERE role = 'user'"))
        await connection.execute(text("UPDATE jobs SET event_count = 1"))
    assert len(await rebuild(engine, lambda _: None)) == 3
    assert await read_model(engine) == right


async def test_a_job_without_end_holds_its_period_back(writer: Writer, engine: AsyncEngine) -> None:
    await look(engine)
    await writer.chat()
    running = await writer.ask()
    lease = await writer.begin(running)
    await archive_now(writer, engine)
    held = await places(engine)
    await look(engine, LATER_MS, days=40)
    assert await places(engine) == held
    await writer.end(lease, running.reply_id, "", after=lease.seq)
    await archive_now(writer, engine)
    await look(engine, LATER_MS, days=40)
    assert await places(engine) == {"events_lasting": 4}


async def test_a_role_that_may_not_change_tables_leaves_it_to_others(
    writer: Writer, engine: AsyncEngine
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("DROP ROLE IF EXISTS keeps_nothing"))
        await connection.execute(text("CREATE ROLE keeps_nothing"))
        granted = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
        await connection.execute(text(f"{granted} TO keeps_nothing"))

    def become(connection: Any) -> None:
        connection.exec_driver_sql("SET LOCAL ROLE keeps_nothing")

    event.listen(engine.sync_engine, "begin", become)
    with pytest.raises(DeploymentError, match="may not change"):
        await look(engine)
    await writer.chat()
    await archive_now(writer, engine)
    event.remove(engine.sync_engine, "begin", become)
    await assert_archived(writer, engine)
    await look(engine)
    assert await places(engine) == {"events_lasting": 2, "period": 5}
    async with engine.begin() as connection:
        await connection.execute(text("DROP OWNED BY keeps_nothing"))
        await connection.execute(text("DROP ROLE keeps_nothing"))


async def test_nothing_is_dropped_unless_asked(writer: Writer, engine: AsyncEngine) -> None:
    await look(engine)
    await writer.chat()
    await archive_now(writer, engine)
    await look(engine, LATER_MS)
    await look(engine, LATER_MS, days=101)
    await assert_archived(writer, engine)


async def test_redis_is_restored_beside_what_was_dropped(
    writer: Writer, engine: AsyncEngine
) -> None:
    """A recent hole is still found, and holes of what was dropped are none."""
    await look(engine)
    old = await writer.chat()
    await archive_now(writer, engine)
    await look(engine, LATER_MS, days=40)
    went_on = await writer.ask(old.thread_id)
    await writer.begin(went_on)
    await archive_now(writer, engine)
    log = writer.keys(old.thread_id).log
    held = await writer.ask(old.thread_id)
    await writer.redis.xreadgroup(PERSISTERS, "slow", {log: ">"}, count=100)
    await writer.ask(old.thread_id)
    await archive_now(writer, engine)
    await writer.redis.flushall()
    await restore_with(engine, writer.redis).closed_partitions()
    kept = (await archive(engine))[old.thread_id]
    assert [record.position for record in kept] == [1, 2, 8, 9]
    known = await writer.redis.hget(writer.keys(old.thread_id).thread(old.thread_id), "position")
    assert known == b"9", f"the hole at {held.message_id} was taken for the thread's end"
