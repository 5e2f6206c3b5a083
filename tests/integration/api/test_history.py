"""What Redis has let go comes from the archive, and nobody sees where one begins and one ends.

Every test reads real streams over HTTP from every place, and sees exactly the events behind it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable

import pytest
import pytest_asyncio
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.archive import Archive
from shared.codec import Record
from shared.hot_state import READ_COUNT_MAX
from shared.postgres import create_engine
from shared.read_model import events
from shared.settings import Settings
from shared.thread_stream import HoleInStream, ThreadStream
from tests.integration.api.gateways import Client
from tests.integration.api.persisting import archive_all, let_go, trim
from tests.integration.api.sse_client import as_seen, seen
from tests.integration.api.waiting import soon
from tests.integration.api.worker import Worker


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(settings: Settings) -> AsyncGenerator[AsyncEngine]:
    engine = create_engine(settings.required("database_url"), application="test")
    yield engine
    await engine.dispose()


@pytest.fixture
def history(worker: Worker, engine: AsyncEngine) -> ThreadStream:
    return ThreadStream(worker.hot, Archive(engine))


async def chat(worker: Worker, client: Client, *, tokens: int = 6) -> tuple[str, str]:
    """A finished job with a message posted amid its events: the ids of its thread and itself."""
    attempt = await worker.ask(client)
    thread_id, job_id = attempt.lease.thread_id, attempt.lease.job_id
    await attempt.say(*map(str, range(tokens // 2)))
    path = f"/v1/threads/{thread_id}/messages"
    waiting = await client.ok("POST", path, json={"content": "and then?"})
    await attempt.say(*map(str, range(tokens // 2, tokens)))
    await client.ok("POST", f"/v1/jobs/{waiting['job_id']}/cancel")
    await attempt.end()
    return thread_id, job_id


async def follow_job(
    client: Client, job_id: str, *, after: int
) -> list[tuple[int, str | None, str | None]]:
    async with client.stream_events(f"/v1/jobs/{job_id}/events", after=after) as stream:
        frames = await stream.rest()
        assert stream.ended_cleanly
    return seen(frames)


async def check_every_place(client: Client, job_id: str, records: list[Record]) -> None:
    """The stream and the pages of a finished job, from every seq on."""
    mine = [record for record in records if record.stream == job_id]
    for after in range(len(mine) + 1):
        assert await follow_job(client, job_id, after=after) == as_seen(mine[after:], by_seq=True)
        path = f"/v1/jobs/{job_id}/events?format=json&after={after}&limit=3"
        page = await client.ok("GET", path)
        assert page["items"] == [json.loads(record.data) for record in mine[after : after + 3]]
        assert page["next_cursor"] == (str(after + 3) if after + 3 < len(mine) else None)


async def check_thread(client: Client, thread_id: str, records: list[Record]) -> None:
    """The thread's feed from every position on."""
    for after in range(len(records) + 1):
        path = f"/v1/threads/{thread_id}/events"
        async with client.stream_events(path, after=after) as stream:
            frames = await stream.take(len(records) - after)
        assert seen(frames) == as_seen(records[after:], by_seq=False)


async def test_from_redis(client: Client, worker: Worker) -> None:
    thread_id, job_id = await chat(worker, client)
    records = await worker.records(thread_id)
    await check_every_place(client, job_id, records)
    await check_thread(client, thread_id, records)


async def test_head_from_the_archive(client: Client, worker: Worker, settings: Settings) -> None:
    thread_id, job_id = await chat(worker, client)
    records = await worker.records(thread_id)
    await archive_all(settings, worker.redis)
    for before in (3, 6, len(records)):
        await trim(worker, thread_id, before=before)
        await check_every_place(client, job_id, records)
    await check_thread(client, thread_id, records)


async def test_all_from_the_archive(client: Client, worker: Worker, settings: Settings) -> None:
    thread_id, job_id = await chat(worker, client)
    records = await worker.records(thread_id)
    job = await client.ok("GET", f"/v1/jobs/{job_id}")
    await archive_all(settings, worker.redis)
    await let_go(worker, thread_id)
    assert await worker.records(thread_id) == []
    await check_every_place(client, job_id, records)
    await check_thread(client, thread_id, records)
    archived = await client.ok("GET", f"/v1/jobs/{job_id}")
    times = ("finished_at",)  # of the append, and of its event
    assert {k: v for k, v in archived.items() if k not in times} == {
        k: v for k, v in job.items() if k not in times
    }


async def test_a_long_job_from_the_archive(
    client: Client, worker: Worker, settings: Settings
) -> None:
    """Its `done` stands behind other events, beyond the first page the archive gives."""
    thread_id, job_id = await chat(worker, client, tokens=READ_COUNT_MAX - 3)
    records = await worker.records(thread_id)
    await archive_all(settings, worker.redis)
    await let_go(worker, thread_id)
    mine = [record for record in records if record.stream == job_id]
    for after in (0, 1, len(mine) - 2, len(mine) - 1, len(mine)):
        assert await follow_job(client, job_id, after=after) == as_seen(mine[after:], by_seq=True)


async def test_a_thread_that_comes_back_goes_on_where_it_was(
    client: Client, worker: Worker, settings: Settings
) -> None:
    thread_id, _ = await chat(worker, client)
    before = await worker.records(thread_id)
    await archive_all(settings, worker.redis)
    await let_go(worker, thread_id)
    async with client.stream_events(f"/v1/threads/{thread_id}/events") as stream:
        assert seen(await stream.take(len(before))) == as_seen(before, by_seq=False)
        path = f"/v1/threads/{thread_id}/messages"
        accepted = await client.ok("POST", path, json={"content": "again"})
        await worker.answer(accepted["job_id"])
        after = await worker.records(thread_id)
        assert after[0].position == len(before) + 1
        assert seen(await stream.take(len(after))) == as_seen(after, by_seq=False)
    await check_thread(client, thread_id, before + after)


async def test_a_hole_in_the_archive_is_not_passed_over(
    client: Client, worker: Worker, settings: Settings, engine: AsyncEngine
) -> None:
    """A batch is still under way: the archive has what is behind it, Redis has all of it."""
    thread_id, job_id = await chat(worker, client)
    records = await worker.records(thread_id)
    await archive_all(settings, worker.redis)
    await unarchive(engine, thread_id, positions=[7])
    await trim(worker, thread_id, before=5)
    await check_thread(client, thread_id, records)
    await check_every_place(client, job_id, records)


async def test_an_archive_that_lags_is_not_the_end(
    client: Client, worker: Worker, settings: Settings, engine: AsyncEngine, history: ThreadStream
) -> None:
    thread_id, job_id = await chat(worker, client)
    records = await worker.records(thread_id)
    await archive_all(settings, worker.redis)
    await unarchive(engine, thread_id, positions=range(7, 100))
    await trim(worker, thread_id, before=5)
    assert await history.behind(thread_id, 2) == (records[2:6], True)
    assert await history.behind(thread_id, 6) == (records[6:], False)
    await check_thread(client, thread_id, records)
    await check_every_place(client, job_id, records)


async def test_what_nobody_has_is_told_and_never_passed_over(
    client: Client, worker: Worker, settings: Settings, engine: AsyncEngine, history: ThreadStream
) -> None:
    thread_id, job_id = await chat(worker, client)
    await archive_all(settings, worker.redis)
    await unarchive(engine, thread_id, positions=[4])
    await trim(worker, thread_id, before=6)
    with pytest.raises(HoleInStream):
        await history.behind(thread_id, 3)
    assert [r.position for r in (await history.behind(thread_id, 2)).records] == [3]
    path = f"/v1/jobs/{job_id}/events?format=json"
    assert await client.problem("GET", path) == (500, "internal_error")


@pytest.mark.parametrize("known", [True, False])
async def test_the_end_of_a_thread(
    client: Client, worker: Worker, settings: Settings, history: ThreadStream, known: bool
) -> None:
    thread_id, _ = await chat(worker, client)
    end = len(await worker.records(thread_id))
    if not known:
        await archive_all(settings, worker.redis)
        await let_go(worker, thread_id)
    assert await soon(history.behind(thread_id, end)) == ([], False)


async def test_what_comes_between_two_looks_is_found(
    client: Client, worker: Worker, history: ThreadStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = await worker.ask(client)
    thread_id = attempt.lease.thread_id
    records = worker.hot.records
    looks = 0

    async def append_behind_the_look(*args: object, **more: object) -> list[Record]:
        nonlocal looks
        found = await records(*args, **more)  # pyright: ignore[reportArgumentType]
        looks += 1
        if looks == 1:
            await attempt.say("quick")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(worker.hot, "records", append_behind_the_look)
        page = await history.behind(thread_id, 3)
    assert [record.position for record in page.records] == [4]


async def unarchive(engine: AsyncEngine, thread_id: str, *, positions: Iterable[int]) -> None:
    """As if the batch with these events had not been committed yet."""
    async with engine.begin() as connection:
        await connection.execute(
            delete(events).where(
                events.c.thread_id == thread_id,
                events.c.position.in_(list(positions)),
            )
        )
