"""Batches, handed over one by one: kept to the letter, repeated, reordered, poisoned."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.archive_round import ArchiveRound
from services.persister.batch import Entry, read_batch
from services.persister.project_events import ProjectEvents
from services.persister.store import Store
from shared.continuity import Continuity
from shared.dead_letters import DeadLetters
from shared.errors import LogUnavailable
from shared.keys import PERSISTERS
from shared.redis_client import Redis, connect
from shared.retention import Retention
from shared.times import utc_now
from tests.integration.persister.tables import archive, expected_read_model, read_model
from tests.integration.persister.writer import LIFE, PARTITIONS, TTL_SECONDS, Writer

NOBODY_LISTENS = "redis://127.0.0.1:1/0"
READ_MAX = 10_000


def use_case(engine: AsyncEngine, redis: Redis) -> ProjectEvents:
    retention = Retention(redis, idle_ttl_seconds=TTL_SECONDS)
    archive = ArchiveRound(Store(engine), redis, retention, asyncio.Event())
    return ProjectEvents(archive, DeadLetters(redis), Continuity(redis, PARTITIONS))


@pytest.fixture
def project(engine: AsyncEngine, redis: Redis) -> ProjectEvents:
    return use_case(engine, redis)


@pytest.fixture
async def cut_off(engine: AsyncEngine) -> AsyncGenerator[ProjectEvents]:
    """The use case with its Redis away."""
    redis = connect(NOBODY_LISTENS)
    yield use_case(engine, redis)
    await redis.aclose()


async def read(writer: Writer, thread_id: str) -> list[Entry]:
    """What is new in the thread's partition, now pending."""
    log = writer.keys(thread_id).log
    reply: Any = await writer.redis.xreadgroup(PERSISTERS, "test", {log: ">"}, count=READ_MAX)
    return reply[0][1]


def thread_entries(*data: bytes, kind: str = "token") -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Entries of one job whose data are as given."""
    return [
        (
            b"1790000000%03d-0" % seq,
            {b"h": b"t", b"p": b"%d" % seq, b"j": b"j", b"s": b"%d" % seq, b"t": kind.encode()}
            | {b"d": each},
        )
        for seq, each in enumerate(data, start=1)
    ]


ODD = [
    '{"content": "plain"}',
    '{"content":"\\u0000 \\ud83d\\ude00 \\ud83d \\/ \\u00e9 \\n"}',
    '{"content":"\U0001f600 \u2028 é ﷽"}',
    '  {"b" : [ 1 ,2 ] ,\r\n\t"a":{ } }\n',
    '{"a":1,"a":2,"n":1e400,"m":-0.0,"k":12345678901234567890123}',
]


async def test_the_archive_keeps_data_to_the_letter(
    project: ProjectEvents, engine: AsyncEngine
) -> None:
    written = [text.encode() for text in ODD]
    await project(0, thread_entries(*written), LIFE)
    assert [record.data for record in (await archive(engine))["t"]] == written


async def test_events_are_recorded_when_the_log_took_them(
    project: ProjectEvents, engine: AsyncEngine
) -> None:
    await project(0, thread_entries(b"{}"), LIFE)
    async with engine.connect() as connection:
        recorded = await connection.scalar(text("SELECT recorded_at FROM events"))
    assert recorded == datetime.fromtimestamp(1790000000.001, UTC)


async def test_a_nul_is_kept_in_the_archive_and_replaced_in_the_read_model(
    writer: Writer, project: ProjectEvents, engine: AsyncEngine
) -> None:
    command = await writer.ask(content="a\0b", metadata={"k\0": ["\0"]})
    entries = await read(writer, command.thread_id)
    await project(writer.keys(command.thread_id).partition, entries, LIFE)
    message = (await read_model(engine))["messages"][command.message_id]
    assert message["content"] == "a\ufffdb"
    assert message["metadata"] == {"k\ufffd": ["\ufffd"]}
    posted = (await archive(engine))[command.thread_id][1]
    assert json.loads(posted.data)["content"] == "a\0b"


async def test_types_of_later_versions_are_archived(
    project: ProjectEvents, engine: AsyncEngine
) -> None:
    await project(0, thread_entries(b'{"type":"reaction","v":1,"x":[]}', kind="reaction"), LIFE)
    await project(0, thread_entries(b"{}", b'{"type":"done","v":2}', kind="done")[1:], LIFE)
    assert [record.type for record in (await archive(engine))["t"]] == ["reaction", "done"]
    assert (await read_model(engine))["jobs"]["j"]["status"] is None


async def test_a_batch_that_comes_again_changes_nothing_and_reports_again(
    writer: Writer, project: ProjectEvents, engine: AsyncEngine
) -> None:
    """The first persister died between its commit and its report."""
    command = await writer.chat()
    keys = writer.keys(command.thread_id)
    entries = await read(writer, command.thread_id)
    await Store(engine).commit(keys.partition, read_batch(entries), LIFE)
    rows, archived = await read_model(engine), await archive(engine)
    names = [keys.thread(command.thread_id), keys.job(command.job_id)]
    assert [await writer.redis.ttl(name) for name in names] == [-1, -1]
    await project(keys.partition, entries, LIFE)
    assert await read_model(engine) == rows
    assert await archive(engine) == archived
    assert [await writer.redis.ttl(name) > 0 for name in names] == [True, True]
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT event_count FROM checkpoints")) == len(entries)


async def test_a_batch_is_archived_though_it_could_not_be_announced(
    writer: Writer, cut_off: ProjectEvents, engine: AsyncEngine
) -> None:
    """And it is not done: what the archive has must be reported before it is acknowledged."""
    command = await writer.chat()
    entries = await read(writer, command.thread_id)
    with pytest.raises(LogUnavailable):
        await cut_off(0, entries, LIFE)
    assert len((await archive(engine))[command.thread_id]) == len(entries)


async def test_threads_are_processing_while_their_batch_waits(
    writer: Writer, project: ProjectEvents, engine: AsyncEngine
) -> None:
    command = await writer.ask()
    keys, entries = writer.keys(command.thread_id), await read(writer, command.thread_id)

    async def state() -> list[Any]:
        fields = ["state", "processing", "archived"]
        return list(await writer.redis.hmget(keys.thread(command.thread_id), fields))

    async with engine.connect() as connection:
        await connection.execute(text("LOCK TABLE events"))
        task = asyncio.create_task(project(keys.partition, entries, LIFE))
        while await state() != [b"PROCESSING", b"2", None]:
            assert not task.done()
            await asyncio.sleep(0.01)
        await connection.rollback()
    await task
    assert await state() == [b"ACTIVE", b"2", b"2"]


STARTED = {"type": "started", "job_id": "j", "seq": 3, "attempt": 1, "at": utc_now(), "agent": "a"}
POISON: dict[str, dict[bytes, bytes | None]] = {
    "a field is missing": {b"p": None},
    "no data": {b"d": None},
    "seq is not a number": {b"s": b"three"},
    "seq is too large": {b"s": b"3000000000"},
    "position is not a number": {b"p": b"1.5"},
    "data is not JSON": {b"d": b'{"content":'},
    "data is empty": {b"d": b""},
    "data is not UTF-8": {b"d": b'{"content":"\xff"}'},
    "data has a NUL": {b"d": b'{"content":"\x00"}'},
    "data has the separator": {b"d": b'{"content":"\x1e"}'},
    "data is nested too deep": {b"d": b"[" * 100_000 + b"]" * 100_000},
    "a known type does not validate": {b"t": b"started", b"d": json.dumps(STARTED).encode()},
    "a type that is another's": {b"t": b"started"},
    "a time that is none": {
        b"t": b"started",
        b"d": json.dumps({**STARTED, "model": "m", "at": "now"}).encode(),
    },
    "a time Postgres has not": {
        b"t": b"thread.created",
        b"d": b'{"type":"thread.created","thread_id":"t","at":"2026-01-01T00:00:00+23:59"'
        b',"owner":"o","metadata":{"n":1e999}}',
    },
    "a key too long for the index": {b"j": b"".join(b"%d" % n for n in range(20_000))},
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
async def test_a_poisoned_batch_loses_only_the_poison(
    writer: Writer, project: ProjectEvents, engine: AsyncEngine, poison: dict[bytes, bytes | None]
) -> None:
    command = await writer.ask()
    thread_id, keys = command.thread_id, writer.keys(command.thread_id)
    good = {"h": "t", "p": 1, "j": "j", "s": 1, "t": "token", "d": '{"type":"token"}'}
    await writer.write_fields(thread_id, good)
    bad = {name.encode(): str(value).encode() for name, value in {**good, "p": 3, "s": 3}.items()}
    bad = {name: value for name, value in {**bad, **poison}.items() if value is not None}
    bad_id = await writer.write_fields(thread_id, bad)
    await writer.write_fields(thread_id, {**good, "p": 2, "s": 2})
    await project(keys.partition, await read(writer, thread_id), LIFE)

    found = await archive(engine)
    positions = {name: [record.position for record in found[name]] for name in found}
    assert positions == {thread_id: [1, 2], "t": [1, 2]}
    assert await read_model(engine) == expected_read_model(found)
    letters: Any = await writer.redis.xrange(keys.dead)
    [(_, dead)] = letters
    assert (dead.pop(b"kind"), dead.pop(b"entry")) == (b"event", bad_id.encode())
    assert dead.pop(b"reason")
    assert dead.pop(b"at")
    assert dead == bad, "the original fields are kept"
    pending: Any = await writer.redis.xpending_range(keys.log, PERSISTERS, "-", "+", READ_MAX)
    assert bad_id.encode() not in [row["message_id"] for row in pending]


async def test_an_event_whose_place_is_taken_is_not_lost_in_silence(
    writer: Writer, project: ProjectEvents, engine: AsyncEngine
) -> None:
    """Redis has lost its last second: it gives a seq and a position out that the archive has."""
    thread_id, keys = "thr_lost", writer.keys("thr_lost")
    first = {"h": thread_id, "p": 1, "j": "j", "s": 1, "t": "token", "d": '{"n":1}'}
    other, behind = {**first, "d": '{"n":2}'}, {**first, "s": 2, "p": 2}
    await writer.write_fields(thread_id, first)
    await project(keys.partition, await read(writer, thread_id), LIFE)
    for fields in (first, other, behind):  # the first again is no other event
        await writer.write_fields(thread_id, fields)
    await project(keys.partition, await read(writer, thread_id), LIFE)
    archived = (await archive(engine))[thread_id]
    assert [(record.seq, record.data) for record in archived] == [(1, b'{"n":1}'), (2, b'{"n":1}')]
    letters: Any = await writer.redis.xrange(keys.dead)
    assert [fields[b"d"] for _, fields in letters] == [b'{"n":2}']


async def test_the_checkpoint_is_the_highest_entry_and_counts_what_is_new(
    project: ProjectEvents, engine: AsyncEngine
) -> None:
    found: list[tuple[str, int]] = []
    for seq, entry_id in enumerate((b"5-3", b"5-2", b"4-9", b"5-12", b"10-0", b"9-7", b"5-3"), 1):
        [*_, (_, fields)] = thread_entries(*[b"{}"] * min(seq, 6))
        await project(3, [(entry_id, fields)], LIFE)
        async with engine.connect() as connection:
            query = text("SELECT log_ms || '-' || log_n, event_count FROM checkpoints")
            [(last, count)] = (await connection.execute(query)).all()
            found.append((last, count))
    last = ["5-3", "5-3", "5-3", "5-12", "10-0", "10-0", "10-0"]
    assert found == list(zip(last, [1, 2, 3, 4, 5, 6, 6], strict=True))


async def test_a_wholly_poisoned_batch_is_given_up(
    writer: Writer, project: ProjectEvents, engine: AsyncEngine
) -> None:
    thread_id = "thr_poisoned"
    for _ in range(9):
        await writer.write_fields(thread_id, {"nothing": "known"})
    keys = writer.keys(thread_id)
    await project(keys.partition, await read(writer, thread_id), LIFE)
    assert await writer.redis.xlen(keys.dead) == 9
    assert await archive(engine) == {}
