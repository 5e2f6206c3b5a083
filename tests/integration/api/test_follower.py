"""A follower joins what it hears with what it reads: whatever is lost, repeated or late.

The stores are real; what a follower hears is offered by hand, so that every order can be tried.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from services.api import follower as follower_module
from services.api import pages as pages_module
from services.api.follower import Follower
from shared.archive import Archive
from shared.codec import Record
from shared.errors import LogUnavailable
from shared.hot_state import READ_COUNT_MAX
from shared.postgres import create_engine
from shared.settings import Settings
from shared.thread_stream import ThreadStream
from tests.integration.api.gateways import Client
from tests.integration.api.waiting import eventually, soon
from tests.integration.api.worker import Worker

EVENTS = 40
SEEDS = range(40)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def history(worker: Worker, settings: Settings) -> AsyncGenerator[ThreadStream]:
    engine = create_engine(settings.required("database_url"), application="test")
    yield ThreadStream(worker.hot, Archive(engine))
    await engine.dispose()


async def thread_of(worker: Worker, client: Client, events: int) -> tuple[str, list[Record]]:
    """A thread with this many events, and the events."""
    attempt = await worker.ask(client)
    await attempt.say(*map(str, range(events - 4)))
    await attempt.end()
    records = await worker.records(attempt.lease.thread_id)
    assert len(records) == events
    return attempt.lease.thread_id, records


def offer(follower: Follower, *records: Record) -> None:
    follower.offer(list(records), sum(len(record.data) for record in records))


async def read(follower: Follower, count: int) -> list[Record]:
    found: list[Record] = []
    while len(found) < count:
        found += await soon(follower.next())
    return found


async def level(history: ThreadStream, thread_id: str, *, at: int) -> Follower:
    """A follower that believes to know the thread up to a position."""
    follower = Follower(history, thread_id, after=at)
    follower._behind = False  # as if it had read when the thread ended there
    return follower


async def test_a_jump_to_the_cursor_is_read(
    history: ThreadStream, worker: Worker, client: Client
) -> None:
    thread_id, records = await thread_of(worker, client, 8)
    follower = await level(history, thread_id, at=2)
    offer(follower, records[5])
    assert await read(follower, 6) == records[2:]


async def test_a_jump_within_the_buffer_is_read(
    history: ThreadStream, worker: Worker, client: Client
) -> None:
    thread_id, records = await thread_of(worker, client, 8)
    follower = await level(history, thread_id, at=2)
    offer(follower, *records[2:4])
    offer(follower, *records[5:7])
    assert await read(follower, 6) == records[2:]


async def test_what_runs_over_is_read(
    history: ThreadStream, worker: Worker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id, records = await thread_of(worker, client, 8)
    monkeypatch.setattr(follower_module, "BUFFER_BYTES_MAX", 400)
    follower = await level(history, thread_id, at=0)
    for record in records:
        offer(follower, record)
    assert not follower._buffer
    assert await read(follower, 8) == records


async def test_what_was_read_and_heard_is_given_once(
    history: ThreadStream, worker: Worker, client: Client
) -> None:
    thread_id, records = await thread_of(worker, client, 8)
    follower = Follower(history, thread_id, after=0)
    follower._behind = False
    offer(follower, *records[:6])
    follower.cursor = 4  # as if a read that was under way had brought it here
    assert await read(follower, 2) == records[4:6]


async def test_a_long_stream_is_read_in_pages(
    history: ThreadStream, worker: Worker, client: Client
) -> None:
    thread_id, records = await thread_of(worker, client, 2 * READ_COUNT_MAX + 7)
    follower = Follower(history, thread_id, after=3)
    first = await soon(follower.next())
    assert len(first) == pages_module.FIRST_PAGE_COUNT
    assert first + await read(follower, len(records) - 3 - len(first)) == records[3:]


async def test_a_page_is_cut_where_it_gets_too_large(
    history: ThreadStream, worker: Worker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id, records = await thread_of(worker, client, 60)
    monkeypatch.setattr(pages_module, "PAGE_BYTES_MAX", 1500)
    follower = Follower(history, thread_id, after=0)
    found = list[Record]()
    while len(found) < len(records):
        page = await soon(follower.next())
        assert sum(len(record.data) for record in page) <= 1500
        found += page
    assert found == records


async def test_a_record_larger_than_a_page_is_given(
    history: ThreadStream, worker: Worker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id, records = await thread_of(worker, client, 8)
    monkeypatch.setattr(pages_module, "PAGE_BYTES_MAX", 1)
    assert await read(Follower(history, thread_id, after=0), 8) == records


async def test_a_publish_that_contradicts_what_is_known_is_not_believed(
    history: ThreadStream, worker: Worker, client: Client
) -> None:
    thread_id, records = await thread_of(worker, client, 8)
    follower = Follower(history, thread_id, after=2)
    assert await read(follower, 6) == records[2:]
    other = records[7]._replace(data=b"{}")
    offer(follower, other, records[7]._replace(position=9))
    follower.ping()
    follower.ping()
    assert await soon(follower.next()) == []
    assert follower.cursor == 8


async def test_only_what_is_wanted_is_given(
    history: ThreadStream, worker: Worker, client: Client
) -> None:
    thread_id, records = await thread_of(worker, client, 8)
    follower = Follower(history, thread_id, after=0, wanted=lambda r: r.type == "done")
    assert await read(follower, 1) == records[-1:]
    assert follower.cursor == 8


async def test_a_ping_is_due_also_while_only_others_speak(
    history: ThreadStream, worker: Worker, client: Client
) -> None:
    thread_id, records = await thread_of(worker, client, 8)
    follower = Follower(history, thread_id, after=0, wanted=lambda r: r.type == "done")
    follower._behind = False
    follower.ping()
    offer(follower, *records[:5])
    follower.ping()
    assert await soon(follower.next()) == []
    assert not follower.ended
    offer(follower, *records[5:])
    assert await soon(follower.next()) == records[-1:]


async def test_the_end_comes_at_once_while_it_waits(
    history: ThreadStream, worker: Worker, client: Client
) -> None:
    thread_id, _ = await thread_of(worker, client, 8)
    follower = Follower(history, thread_id, after=8)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(soon(follower.next()))
        try:
            await eventually(lambda: follower.is_level)
        finally:
            follower.end()
    assert waiting.result() == []
    assert follower.ended


async def test_the_end_comes_at_once_while_it_reads(
    history: ThreadStream, worker: Worker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id, _ = await thread_of(worker, client, 8)
    reading = asyncio.Event()

    async def read_for_ever(*_: object, **__: object) -> None:
        reading.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(history, "behind", read_for_ever)
    follower = Follower(history, thread_id, after=0)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(soon(follower.next()))
        await soon(reading.wait())
        follower.end()
        follower.end()
    assert waiting.result() == []


async def test_the_end_comes_at_once_while_the_stores_are_away(
    history: ThreadStream, worker: Worker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id, _ = await thread_of(worker, client, 8)
    asked = 0

    async def away(*_: object, **__: object) -> None:
        nonlocal asked
        asked += 1
        raise LogUnavailable("away")

    monkeypatch.setattr(history, "behind", away)
    monkeypatch.setattr(follower_module, "RETRY_SECONDS", 3600.0)
    follower = Follower(history, thread_id, after=0)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(soon(follower.next()))
        await eventually(lambda: asked == 1 and follower._behind)
        follower.end()
    assert waiting.result() == []


async def test_any_order_of_hearing_gives_the_stream(
    history: ThreadStream, worker: Worker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in SEEDS:
        with monkeypatch.context() as patch:
            await hear_at_random(history, worker, client, patch, random.Random(seed))


async def hear_at_random(
    history: ThreadStream,
    worker: Worker,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    chance: random.Random,
) -> None:
    """Publishes are lost and pile up; the client reads when it likes.

    The stream grows as it is heard of: what is offered, or lost, is in Redis by then.
    """
    monkeypatch.setattr(follower_module, "BUFFER_BYTES_MAX", chance.choice([500, 3000, 10**6]))
    start = chance.randint(0, EVENTS // 2)
    attempt = await worker.ask(client)
    thread_id, known = attempt.lease.thread_id, 3
    follower = Follower(history, thread_id, after=min(start, known))
    found, first = list[Record](), follower.cursor
    while known < EVENTS:
        await attempt.say(*["x"] * (grown := chance.randint(1, 3)))
        news = await worker.records(thread_id, after=known)
        assert len(news) == grown
        known += grown
        match chance.random():
            case luck if luck < 0.6:
                offer(follower, *news)
            case luck if luck < 0.7:
                follower.fall_behind()  # a subscription was confirmed, the sweep found something
            case _:
                pass  # lost
        while chance.random() < 0.3 and not follower.is_level:
            found += await soon(follower.next())
    follower.fall_behind()  # what was lost last, the sweep finds
    records = await worker.records(thread_id)
    found += await read(follower, len(records) - first - len(found))
    assert found == records[first:]
