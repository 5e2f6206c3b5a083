"""What is kept no longer is said to be gone, and what it came to is there as ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.keep_archive import KeepArchive, Keeping
from services.persister.periods import DAY_MS
from shared.archive import Archive
from shared.errors import EventsGone
from shared.postgres import create_engine
from shared.redis_client import Redis
from shared.settings import Settings
from shared.thread_stream import ThreadStream
from tests.integration.api.gateways import PARTITIONS, Client
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.worker import Worker

LATER_MS = round(time.time() * 1000) + 100 * DAY_MS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(settings: Settings) -> AsyncGenerator[AsyncEngine]:
    engine = create_engine(settings.required("database_url"), application="test")
    yield engine
    await engine.dispose()


@pytest.fixture(autouse=True)
def _kept_for_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a thread as young as a test's can be gone."""
    monkeypatch.setattr("services.api.threads.EVENTS_KEPT_SECONDS_MIN", -1.0)


async def drop_all(
    settings: Settings, redis: Redis, engine: AsyncEngine, worker: Worker, thread_id: str
) -> None:
    """Archive everything, let time pass, and have Redis forget the thread."""
    await archive_all(settings, redis)
    keeper = KeepArchive(engine, PARTITIONS, Keeping(30, 40))
    await keeper.look(LATER_MS, asyncio.Event())
    await let_go(worker, thread_id)


async def test_a_job_is_there_and_its_events_are_gone(
    settings: Settings, redis: Redis, engine: AsyncEngine, worker: Worker, client: Client
) -> None:
    attempt = await worker.ask(client)
    thread_id, job_id = attempt.lease.thread_id, attempt.lease.job_id
    await attempt.say("Hel", "lo")
    await attempt.end()
    job, page = f"/v1/jobs/{job_id}", f"/v1/threads/{thread_id}/messages"
    await archive_all(settings, redis)
    before = await client.ok("GET", job), await client.ok("GET", page)
    await drop_all(settings, redis, engine, worker, thread_id)
    assert (await client.ok("GET", job), await client.ok("GET", page)) == before
    assert await client.problem("GET", f"{job}/events") == (410, "events_gone")
    assert await client.problem("GET", f"{job}/events?after=3") == (410, "events_gone")
    assert await client.problem("GET", f"{job}/events?format=json") == (410, "events_gone")
    nothing = await client.ok("GET", f"{job}/events?format=json&after=4")
    assert nothing == {"items": [], "next_cursor": None}


async def test_a_failed_job_has_lost_its_reason(
    settings: Settings, redis: Redis, engine: AsyncEngine, worker: Worker, client: Client
) -> None:
    attempt = await worker.ask(client)
    await attempt.fail()
    job = f"/v1/jobs/{attempt.lease.job_id}"
    before = await client.ok("GET", job)
    await drop_all(settings, redis, engine, worker, attempt.lease.thread_id)
    assert await client.ok("GET", job) == before | {"error": None}


async def test_a_thread_is_followed_from_behind_what_is_gone(
    settings: Settings, redis: Redis, engine: AsyncEngine, worker: Worker, client: Client
) -> None:
    attempt = await worker.ask(client)
    thread_id = attempt.lease.thread_id
    await attempt.say("one", "two")
    await attempt.end()
    await drop_all(settings, redis, engine, worker, thread_id)
    feed = f"/v1/threads/{thread_id}/events"
    for after in (0, 1, 5):
        assert await client.problem("GET", f"{feed}?after={after}") == (410, "events_gone")
    question = {"query": "and now?", "thread_id": thread_id}
    later = await client.ok("POST", "/v1/jobs", json=question)
    await worker.answer(later["job_id"])
    async with client.stream_events(feed, after=6) as stream:
        [first] = await stream.take(1)
    assert first.cursor == 7
    told = await client.request("GET", f"{feed}?after=0")
    assert "up to 6" in told.json()["detail"]


async def test_who_reads_it_meanwhile_is_sent_away(
    settings: Settings, redis: Redis, engine: AsyncEngine, worker: Worker, client: Client
) -> None:
    attempt = await worker.ask(client)
    await attempt.say("one", "two")
    await attempt.end()
    history = ThreadStream(worker.hot, Archive(engine))
    thread_id = attempt.lease.thread_id
    question = {"query": "and now?", "thread_id": thread_id}
    await drop_all(settings, redis, engine, worker, thread_id)
    await client.ok("POST", "/v1/jobs", json=question)
    assert [r.position for r in (await history.behind(thread_id, 0)).records] == [1, 2]
    with pytest.raises(EventsGone):
        await history.behind(thread_id, 2)
