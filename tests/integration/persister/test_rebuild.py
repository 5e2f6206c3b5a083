"""Invariant 7: the read model is a function of the archive, and may be made again at any time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister import rebuild as module
from services.persister import reproject
from services.persister.batch import read_batch
from services.persister.differences import Difference
from services.persister.rebuild import rebuild
from services.persister.store import Store
from shared.errors import CodecError, DeploymentError
from shared.keys import PERSISTERS
from shared.settings import Settings
from tests.integration.persister.observing import assert_archived
from tests.integration.persister.running import eventually, is_consumed, running
from tests.integration.persister.tables import read_model
from tests.integration.persister.writer import LIFE, PARTITIONS, Writer

CHATS = 20
CORRUPTIONS = {
    "threads": "UPDATE threads SET title = 'wrong', event_count = 1 WHERE thread_id = :id",
    "messages": "INSERT INTO messages (message_id, thread_id, job_id) VALUES ('m', :id, 'j')",
    "jobs": "DELETE FROM jobs WHERE thread_id = :id",
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few threads already come in several parts."""
    monkeypatch.setattr(module, "THREADS_PER_PAGE", 3)
    monkeypatch.setattr(reproject, "ROWS_PER_READ", 5)


async def archive_all(writer: Writer, engine: AsyncEngine) -> None:
    store = Store(engine)
    for partition in range(PARTITIONS):
        log = f"{{hw:{partition}}}:log"
        reply: Any
        while reply := await writer.redis.xreadgroup(PERSISTERS, "p", {log: ">"}, count=100):
            await store.commit(partition, read_batch(reply[0][1]), LIFE)


async def test_the_same_rows_come_out(writer: Writer, engine: AsyncEngine) -> None:
    for _ in range(CHATS):
        await writer.chat()
    await archive_all(writer, engine)
    before, heard = await read_model(engine), list[int]()
    assert await rebuild(engine, heard.append) == []
    assert await read_model(engine) == before
    assert sum(heard) == 7 * CHATS
    async with engine.connect() as connection:
        schemas = text("SELECT count(*) FROM pg_namespace WHERE nspname = 'rebuilding'")
        assert await connection.scalar(schemas) == 0, "its tables are left behind"


async def test_wrong_rows_are_found_and_put_right(writer: Writer, engine: AsyncEngine) -> None:
    command = await writer.chat()
    await writer.chat()
    await archive_all(writer, engine)
    right = await read_model(engine)
    async with engine.begin() as connection:
        for statement in CORRUPTIONS.values():
            await connection.execute(text(statement), {"id": command.thread_id})
    assert await rebuild(engine, lambda _: None) == [
        Difference("threads", "changed", 1, [command.thread_id]),
        Difference("messages", "unfounded", 1, ["m"]),
        Difference("jobs", "missing", 1, [command.job_id]),
    ]
    assert await read_model(engine) == right
    assert await rebuild(engine, lambda _: None) == []


async def test_it_works_beside_a_persister(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    """Threads go on and new ones are made while it works: nothing is lost, nothing is different."""
    commands = [await writer.chat() for _ in range(5)]
    stop = asyncio.Event()

    async def go_on() -> None:
        while not stop.is_set():
            for command in commands:
                await writer.answer(await writer.ask(command.thread_id), ["x"] * 3)
            await writer.chat()

    async with running(settings):
        await eventually(lambda: is_consumed(writer.redis))
        load = asyncio.create_task(go_on())
        for _ in range(4):
            assert await rebuild(engine, lambda _: None) == []
        stop.set()
        await load
        await eventually(lambda: is_consumed(writer.redis))
    await assert_archived(writer, engine)


async def test_what_comes_while_rows_are_compared_waits(
    writer: Writer,
    engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A transaction that has begun when the tables are locked, and ends after it, counts too."""
    first = await writer.chat()
    await archive_all(writer, engine)
    compare, commits = module.compare, list[asyncio.Task[None]]()

    async def compare_late(*args: object) -> list[Difference]:
        await writer.answer(await writer.ask(first.thread_id), ["late"])
        commits.append(asyncio.create_task(archive_all(writer, engine)))
        done, _ = await asyncio.wait(commits, timeout=0.3)
        assert not done, "a writer did not wait"
        return await compare(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(module, "compare", compare_late)
    async with engine.begin() as connection:
        await connection.execute(text(CORRUPTIONS["jobs"]), {"id": first.thread_id})
    [difference] = await rebuild(engine, lambda _: None)
    assert (difference.table, difference.how) == ("jobs", "missing")
    await commits[0]
    await assert_archived(writer, engine)


async def test_only_one_at_a_time(
    writer: Writer, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def compare_beside_another(*_: object) -> list[Difference]:
        with pytest.raises(DeploymentError, match="another rebuild"):
            await rebuild(engine, lambda _: None)
        return []

    async def replace_nothing(*_: object) -> None:
        return

    monkeypatch.setattr(module, "compare", compare_beside_another)
    monkeypatch.setattr(module, "replace", replace_nothing)
    assert await rebuild(engine, lambda _: None) == []


async def test_an_event_nobody_can_read_stops_it(writer: Writer, engine: AsyncEngine) -> None:
    command = await writer.chat()
    await archive_all(writer, engine)
    before = await read_model(engine)
    async with engine.begin() as connection:
        spoil = "UPDATE events SET data = '{\"type\":\"done\"}' WHERE type = 'done'"
        await connection.execute(text(spoil))
    with pytest.raises(CodecError, match=f"{command.thread_id} at position 7"):
        await rebuild(engine, lambda _: None)
    assert await read_model(engine) == before


async def test_the_command_says_what_it_found(
    writer: Writer, engine: AsyncEngine, database_url: str
) -> None:
    command = await writer.chat()
    await archive_all(writer, engine)
    assert _run(database_url) == (0, "Same rows.")
    async with engine.begin() as connection:
        await connection.execute(text(CORRUPTIONS["threads"]), {"id": command.thread_id})
    code, said = _run(database_url)
    assert code == 1
    assert f"threads: 1 changed ({command.thread_id})" in said
    assert _run("postgresql://nobody@127.0.0.1:1/none")[0] == 2


def _run(url: str) -> tuple[int, str]:
    """Its exit code, and what it printed below the bar."""
    done = subprocess.run(
        [sys.executable, "-m", "services.persister.rebuild"],
        env={"PATH": os.environ["PATH"], "HEADWATER_DATABASE_URL": url, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.partition("\n")[2].strip()
