"""accept_job and request_cancel: what a client may ask for, and what it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.codec import decode_event
from shared.errors import NotFound, QueueFull, ThreadBusy
from shared.events import MessagePosted, ThreadCreated, ThreadDeleted
from shared.ids import new_thread_id
from shared.log_protocol import ThreadNotLoaded
from tests.support.log_server import AT, QUEUE_MAX, ChannelEar, LogServer, RepeatingRedis, token


async def queue_of(server: LogServer, thread: str) -> list[str]:
    name = server.keys(thread).thread_queue(thread)
    return [job_id.decode() for job_id in await server.redis.lrange(name, 0, -1)]


async def test_a_message_is_an_event_a_job_and_a_command(server: LogServer) -> None:
    thread = await server.thread()
    command = await server.posted(thread)
    posted = decode_event((await server.records(thread))[-1].data)
    assert isinstance(posted, MessagePosted)
    assert (posted.job_id, posted.reply_id) == (command.job_id, command.reply_id)
    job = await server.hot.job(command.job_id)
    assert job is not None
    assert (job.status, job.attempt, job.last_seq, job.first) == ("queued", 0, 0, 2)
    assert (job.thread_id, job.owner, job.reply_id) == (thread, "alice", command.reply_id)
    found = await server.hot.thread(thread)
    assert found is not None
    assert (found.active_job_id, found.position, found.seq) == (command.job_id, 2, 2)
    delivery = await server.deliver()
    assert delivery is not None
    assert delivery.command == command


async def test_a_thread_may_be_made_with_its_first_message(server: LogServer) -> None:
    thread = new_thread_id()
    created = ThreadCreated(thread_id=thread, at=AT, owner="alice", title="t", metadata={"a": 1})
    command = server.command(thread)
    await server.post(command, create=created)
    assert await server.history(thread) == ["thread.created", "message.posted"]
    found = await server.hot.thread(thread)
    assert found is not None
    assert (found.owner, found.state, found.title) == ("alice", "PENDING", "t")
    assert found.metadata == {"a": 1}
    assert [thread.thread_id for thread in await server.hot.dirty_threads("alice")] == [thread]


async def test_accept_sent_again_posts_once(server: LogServer, redis: RepeatingRedis) -> None:
    thread = await server.thread()
    redis.repeats = True
    await server.post(server.command(thread), on_busy="reject")
    assert await server.history(thread) == ["thread.created", "message.posted"]
    assert await redis.xlen(server.keys(thread).commands) == 1


@pytest.mark.parametrize(("user", "error"), [("alice", ThreadNotLoaded), ("bob", ThreadNotLoaded)])
async def test_a_thread_that_is_not_in_redis_must_be_loaded_first(
    server: LogServer, user: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await server.post(server.command(new_thread_id(), user=user))


async def test_somebody_elses_thread_is_not_found(server: LogServer) -> None:
    thread = await server.thread("alice")
    with pytest.raises(NotFound):
        await server.post(server.command(thread, user="bob"))


async def test_a_deleted_thread_is_not_found(server: LogServer) -> None:
    thread = await server.thread()
    await server.threads.change_thread("alice", ThreadDeleted(thread_id=thread, at=AT))
    with pytest.raises(NotFound):
        await server.posted(thread)


async def test_one_job_of_a_thread_at_a_time(server: LogServer) -> None:
    thread = await server.thread()
    first = await server.posted(thread)
    second = await server.posted(thread)
    found = await server.hot.thread(thread)
    assert found is not None
    assert found.active_job_id == first.job_id
    assert await queue_of(server, thread) == [second.job_id]
    assert await server.redis.xlen(server.keys(thread).commands) == 1


async def test_a_busy_thread_may_be_refused(server: LogServer) -> None:
    thread = await server.thread()
    await server.posted(thread)
    with pytest.raises(ThreadBusy):
        await server.posted(thread, on_busy="reject")
    assert await server.history(thread) == ["thread.created", "message.posted"]


@pytest.mark.parametrize("on_busy", ["enqueue", "interrupt"])
async def test_a_queue_has_an_end(server: LogServer, on_busy: Any) -> None:
    thread = await server.thread()
    for _ in range(1 + QUEUE_MAX):
        await server.posted(thread)
    with pytest.raises(QueueFull):
        await server.posted(thread, on_busy=on_busy)
    assert len(await queue_of(server, thread)) == QUEUE_MAX


async def test_an_interrupt_goes_first_and_flags_the_running_job(
    server: LogServer, ear: ChannelEar
) -> None:
    _, lease = await server.running()
    waiting = await server.posted(lease.thread_id)
    urgent = await server.posted(lease.thread_id, on_busy="interrupt")
    assert await queue_of(server, lease.thread_id) == [urgent.job_id, waiting.job_id]
    await ear.catch_up()
    assert ear.woken == {lease.job_id}
    await server.finish(lease, 2, "cancelled")
    delivery = await server.deliver()
    assert delivery is not None
    assert delivery.command == urgent


async def test_a_job_nobody_began_is_cancelled_on_the_spot(server: LogServer) -> None:
    thread = await server.thread()
    first, second = await server.posted(thread), await server.posted(thread)
    assert await server.log.request_cancel(first.job_id, thread) == "cancelled"
    done = json.loads((await server.records(thread))[-1].data)
    assert (done["status"], done["attempt"], done["seq"]) == ("cancelled", 0, 1)
    assert done["message_id"] == first.reply_id
    delivery = await server.deliver()
    assert delivery is not None
    assert delivery.command == second


async def test_a_waiting_job_that_is_cancelled_leaves_the_queue(server: LogServer) -> None:
    _, lease = await server.running()
    second = await server.posted(lease.thread_id)
    third = await server.posted(lease.thread_id)
    assert await server.log.request_cancel(second.job_id, lease.thread_id) == "cancelled"
    assert await queue_of(server, lease.thread_id) == [third.job_id]
    assert await server.append(lease, token(lease, 2)) == "OK"


async def test_a_running_job_is_flagged_and_its_worker_woken(
    server: LogServer, ear: ChannelEar
) -> None:
    _, lease = await server.running()
    before = await server.history(lease.thread_id)
    assert await server.log.request_cancel(lease.job_id, lease.thread_id) == "running"
    await ear.catch_up()
    assert ear.woken == {lease.job_id}
    assert await server.history(lease.thread_id) == before


async def test_a_cancel_after_the_end_has_no_effect(server: LogServer) -> None:
    _, lease = await server.running()
    await server.finish(lease, 2)
    for _ in range(2):
        assert await server.log.request_cancel(lease.job_id, lease.thread_id) == "done"
    assert (await server.history(lease.thread_id)).count("done") == 1


async def test_a_cancel_of_what_redis_let_go_is_told_apart(server: LogServer) -> None:
    thread = await server.thread()
    unknown = server.command(thread).job_id
    assert await server.log.request_cancel(unknown, thread) is None
    assert await server.hot.job(unknown) is None


async def test_what_is_published_is_what_is_stored(server: LogServer, ear: ChannelEar) -> None:
    thread, other = await server.thread(), await server.thread()
    await ear.listen({thread: server.keys(thread).thread(thread)})
    _, lease = await server.running(thread)
    await server.append(lease, token(lease, 2, "line\nbreak \u2028\x00𝄞"), token(lease, 3))
    await server.posted(other)
    await server.finish(lease, 4)
    await ear.catch_up()
    assert ear.heard == {thread: (await server.records(thread))[1:]}
