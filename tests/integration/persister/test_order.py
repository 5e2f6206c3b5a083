"""Invariant 6: the archive is the stream and the read model its fold, however batches come."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.batch import Entry, read_batch
from services.persister.store import Archived, Store
from shared.postgres import create_engine
from shared.read_model import PROJECTED
from tests.integration.persister.tables import archive, expected_read_model, read_model
from tests.integration.persister.writer import LIFE
from tests.unit.persister.histories import History, Placed, deliveries, histories

EXAMPLES_MAX = 60
EMPTY = text(f"TRUNCATE events, checkpoints, {', '.join(table.name for table in PROJECTED)}")


class Database:
    """One database, emptied before each example, on one loop."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.engine: AsyncEngine = create_engine(url, application="test")
        self.store = Store(self.engine)

    async def deliver(self, batches: list[list[Placed]]) -> list[Archived]:
        async with self.engine.begin() as connection:
            await connection.execute(EMPTY)
        return [await self.store.commit(0, read_batch(entries(batch)), LIFE) for batch in batches]

    async def deliver_at_once(self, batches: list[list[Placed]]) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(EMPTY)
        await asyncio.gather(
            *[self.store.commit(0, read_batch(entries(batch)), LIFE) for batch in batches]
        )

    def close(self) -> None:
        self.runner.run(self.engine.dispose())
        self.runner.close()


@pytest.fixture
def database(database_url: str) -> Generator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def entries(batch: list[Placed]) -> list[Entry]:
    return [
        (
            b"%d-%d" % (1_790_000_000_000 + record.position, number),
            {
                b"h": thread_id.encode(),
                b"p": b"%d" % record.position,
                b"j": record.stream.encode(),
                b"s": b"%d" % record.seq,
                b"t": record.type.encode(),
                b"d": record.data,
            },
        )
        for number, (thread_id, record) in enumerate(batch)
    ]


bounded = settings(
    max_examples=EXAMPLES_MAX,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def assert_is_the_history(database: Database, told: list[History]) -> None:
    history = {each.thread_id: each.records for each in told}
    assert database.runner.run(archive(database.engine)) == history
    assert database.runner.run(read_model(database.engine)) == expected_read_model(history)


@bounded
@given(data=st.data())
def test_any_order_any_batches_any_repetition(database: Database, data: st.DataObject) -> None:
    told = data.draw(histories())
    batches = data.draw(deliveries(told))
    answers = database.runner.run(database.deliver(batches))
    assert_is_the_history(database, told)
    assert sum(answer.added for answer in answers) == sum(len(each.records) for each in told)
    assert_reports_are_true(told, batches, answers)


def assert_reports_are_true(
    told: list[History], batches: list[list[Placed]], answers: list[Archived]
) -> None:
    """Whole is what is whole, and whoever completes it says so, also when repeated."""
    arrived: set[tuple[str, int]] = set()
    by_thread = {history.thread_id: history.records for history in told}
    for batch, answer in zip(batches, answers, strict=True):
        arrived |= {(thread_id, record.position) for thread_id, record in batch}
        for thread_id in {thread_id for thread_id, _ in batch}:
            positions = [position for name, position in arrived if name == thread_id]
            whole = {thread_id: max(positions)} if len(positions) == max(positions) else {}
            told_of = {thread_id: position for thread_id, position in answer.threads.items()}
            assert {n: p for n, p in told_of.items() if n == thread_id} == whole
        for job_id in {record.stream for _, record in batch if record.stream.startswith("job_")}:
            [thread_id] = {name for name, record in batch if record.stream == job_id}
            events = [record for record in by_thread[thread_id] if record.stream == job_id]
            finished = events[-1].is_final and all(
                (thread_id, record.position) in arrived for record in events
            )
            assert (job_id in answer.finished_jobs) == finished


@settings(bounded, max_examples=20)
@given(data=st.data())
def test_batches_at_once(database: Database, data: st.DataObject) -> None:
    """Several persisters on one partition; they wait for each other, or try again."""
    told = data.draw(histories())
    database.runner.run(database.deliver_at_once(data.draw(deliveries(told))))
    assert_is_the_history(database, told)
