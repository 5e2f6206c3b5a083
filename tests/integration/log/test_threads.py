"""create_thread, change_thread, load_thread: a thread's own events, and its way back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import NotFound
from shared.events import ThreadCreated, ThreadDeleted, ThreadUpdated
from shared.ids import new_thread_id
from shared.log_protocol import ThreadNotLoaded
from tests.support.log_server import (
    AT,
    IDLE_TTL_SECONDS,
    ChannelEar,
    LogServer,
    RepeatingRedis,
)

LATER = "2026-01-02T04:00:00.000Z"


def renamed(thread: str, title: str) -> ThreadUpdated:
    return ThreadUpdated(thread_id=thread, at=AT, title=title)


async def test_a_new_thread_is_pending_and_dirty(server: LogServer) -> None:
    thread = await server.thread()
    found = await server.hot.thread(thread)
    assert found is not None
    assert (found.state, found.status, found.position, found.seq) == ("PENDING", "active", 1, 1)
    assert (found.created_at, found.updated_at) == (AT, AT)
    assert [one.thread_id for one in await server.hot.dirty_threads("alice")] == [thread]
    assert await server.hot.dirty_threads("bob") == []


async def test_create_sent_again_answers_with_the_first_time(server: LogServer) -> None:
    thread = await server.thread()
    again = ThreadCreated(thread_id=thread, at=LATER, owner="alice")
    assert await server.threads.create_thread(again) == AT
    assert await server.history(thread) == ["thread.created"]


async def test_a_change_is_an_event_and_a_new_value(server: LogServer) -> None:
    thread = await server.thread()
    event = ThreadUpdated(
        thread_id=thread, at=LATER, title="héllo", metadata={"a": [1]}, status="archived"
    )
    await server.threads.change_thread("alice", event)
    found = await server.hot.thread(thread)
    assert found is not None
    assert (found.title, found.metadata, found.status) == ("héllo", {"a": [1]}, "archived")
    assert (found.position, found.seq, found.updated_at) == (2, 2, LATER)
    assert await server.history(thread) == ["thread.created", "thread.updated"]


async def test_a_change_keeps_what_it_does_not_name(server: LogServer) -> None:
    thread = await server.thread()
    await server.threads.change_thread("alice", renamed(thread, "one"))
    await server.threads.change_thread("alice", ThreadUpdated(thread_id=thread, at=AT, metadata={}))
    found = await server.hot.thread(thread)
    assert found is not None
    assert found.title == "one"


async def test_a_change_sent_again_is_one_change(server: LogServer, redis: RepeatingRedis) -> None:
    thread = await server.thread()
    redis.repeats = True
    await server.threads.change_thread("alice", renamed(thread, "one"))
    await server.threads.change_thread("alice", ThreadDeleted(thread_id=thread, at=AT))
    assert await server.history(thread) == ["thread.created", "thread.updated", "thread.deleted"]


async def test_a_change_of_somebody_elses_thread_is_not_found(server: LogServer) -> None:
    thread = await server.thread()
    for event in (renamed(thread, "mine"), ThreadDeleted(thread_id=thread, at=AT)):
        with pytest.raises(NotFound):
            await server.threads.change_thread("bob", event)
    assert await server.history(thread) == ["thread.created"]


async def test_a_thread_that_was_let_go_must_be_loaded_first(server: LogServer) -> None:
    with pytest.raises(ThreadNotLoaded):
        await server.threads.change_thread("alice", renamed(new_thread_id(), "x"))


async def test_a_deletion_ends_what_waits_and_flags_what_runs(
    server: LogServer, ear: ChannelEar
) -> None:
    _, lease = await server.running()
    thread = lease.thread_id
    waiting = [(await server.posted(thread)).job_id for _ in range(2)]
    await ear.listen({thread: server.keys(thread).thread(thread)})
    await server.threads.change_thread("alice", ThreadDeleted(thread_id=thread, at=AT))
    assert (await server.history(thread))[-3:] == ["done", "done", "thread.deleted"]
    for job_id in waiting:
        job = await server.hot.job(job_id)
        assert job is not None
        assert job.status == "cancelled"
    await ear.catch_up()
    assert ear.woken == {lease.job_id}
    assert ear.heard[thread] == (await server.records(thread))[-3:]
    assert await server.finish(lease, 2, "cancelled") == "OK"
    assert await server.deliver() is None


async def test_a_deletion_is_not_repeated_by_a_new_call(server: LogServer) -> None:
    thread = await server.thread()
    await server.threads.change_thread("alice", ThreadDeleted(thread_id=thread, at=AT))
    with pytest.raises(NotFound):
        await server.threads.change_thread("alice", ThreadDeleted(thread_id=thread, at=AT))


async def test_a_loaded_thread_goes_on_where_it_stood(server: LogServer) -> None:
    thread = await server.thread()
    await server.threads.change_thread("alice", renamed(thread, "one"))
    archived = await server.hot.thread(thread)
    assert archived is not None
    keys = server.keys(thread)
    await server.redis.delete(keys.thread(thread), keys.thread_events(thread))
    await server.threads.load(replace(archived, state="ACTIVE"))
    assert 0 < await server.redis.ttl(keys.thread(thread)) <= IDLE_TTL_SECONDS
    command = await server.posted(thread)
    assert await server.redis.ttl(keys.thread(thread)) == -1
    [record] = await server.records(thread)
    assert (record.position, record.seq, record.type) == (3, 3, "message.posted")
    found = await server.hot.thread(thread)
    assert found is not None
    assert (found.title, found.active_job_id) == ("one", command.job_id)


async def test_a_thread_that_is_there_knows_more_than_the_archive(server: LogServer) -> None:
    thread = await server.thread()
    archived = await server.hot.thread(thread)
    assert archived is not None
    await server.threads.change_thread("alice", renamed(thread, "newer"))
    await server.threads.load(archived)
    found = await server.hot.thread(thread)
    assert found is not None
    assert (found.title, found.position) == ("newer", 2)
    assert await server.redis.ttl(server.keys(thread).thread(thread)) == -1


@pytest.mark.parametrize("state", ["DELETING", "DELETED"])
async def test_a_deleted_thread_does_not_come_back(server: LogServer, state: str) -> None:
    thread = await server.thread()
    archived = await server.hot.thread(thread)
    assert archived is not None
    with pytest.raises(NotFound):
        await server.threads.load(replace(archived, state=state))  # type: ignore[arg-type]
