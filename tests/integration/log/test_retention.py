"""report_progress, trim_log and dead_letter: what may leave Redis, and when."""

from __future__ import annotations

import pytest

from shared.dead_letters import DeadLetters
from shared.events import ThreadDeleted, ThreadUpdated
from shared.keys import PartitionKeys
from tests.support.log_server import (
    AT,
    IDLE_TTL_SECONDS,
    LogServer,
    RepeatingRedis,
    token,
)

KEYS = PartitionKeys(0)


async def leaves(server: LogServer, thread: str) -> bool:
    """Whether the thread has a TTL; its events must have the same."""
    keys = server.keys(thread)
    ttl = await server.redis.ttl(keys.thread(thread))
    events_ttl = await server.redis.ttl(keys.thread_events(thread))
    assert (ttl > 0) == (events_ttl > 0)
    assert ttl <= IDLE_TTL_SECONDS
    return ttl > 0


async def state_of(server: LogServer, thread: str) -> str:
    found = await server.hot.thread(thread)
    assert found is not None
    return found.state


async def archived(server: LogServer, thread: str, position: int) -> None:
    await server.retention.report(0, "archived", {thread: position})


async def test_the_states_follow_the_persister(server: LogServer) -> None:
    thread = await server.thread()
    seen = [await state_of(server, thread)]
    for kind in ("processing", "archived", "processing"):
        await server.retention.report(0, kind, {thread: 1})
        seen.append(await state_of(server, thread))
    assert seen == ["PENDING", "PROCESSING", "ACTIVE", "ACTIVE"]


async def test_a_deletion_is_deleted_once_it_is_archived(server: LogServer) -> None:
    thread = await server.thread()
    await server.threads.change_thread("alice", ThreadDeleted(thread_id=thread, at=AT))
    await server.retention.report(0, "processing", {thread: 2})
    await archived(server, thread, 1)
    assert await state_of(server, thread) == "DELETING"
    await archived(server, thread, 2)
    assert await state_of(server, thread) == "DELETED"


async def test_a_thread_leaves_only_when_all_of_it_is_archived(server: LogServer) -> None:
    thread = await server.thread()
    await server.threads.change_thread("alice", ThreadUpdated(thread_id=thread, at=AT, title="x"))
    await archived(server, thread, 1)
    assert not await leaves(server, thread)
    await archived(server, thread, 2)
    assert await leaves(server, thread)


async def test_a_thread_does_not_leave_while_a_job_is_alive(server: LogServer) -> None:
    _, lease = await server.running()
    await archived(server, lease.thread_id, 3)
    assert not await leaves(server, lease.thread_id)
    await server.finish(lease, 2)
    await archived(server, lease.thread_id, 4)
    assert await leaves(server, lease.thread_id)


async def test_a_new_message_keeps_a_thread_that_was_leaving(server: LogServer) -> None:
    thread = await server.thread()
    await archived(server, thread, 1)
    assert await leaves(server, thread)
    await server.posted(thread)
    assert not await leaves(server, thread)


async def test_a_change_keeps_a_thread_that_was_leaving(server: LogServer) -> None:
    thread = await server.thread()
    await archived(server, thread, 1)
    await server.threads.change_thread("alice", ThreadUpdated(thread_id=thread, at=AT, title="x"))
    assert not await leaves(server, thread)


async def test_a_stream_in_use_is_cut_behind_the_archive(
    server: LogServer, cut_to_the_letter: int
) -> None:
    thread = await server.thread()
    for number in range(9):
        event = ThreadUpdated(thread_id=thread, at=AT, title=str(number))
        await server.threads.change_thread("alice", event)
    await archived(server, thread, 7)
    positions = [record.position for record in await server.records(thread)]
    assert positions == list(range(7 - cut_to_the_letter, 11))


async def test_a_stream_is_not_cut_inside_the_job_that_runs(
    server: LogServer, cut_to_the_letter: int
) -> None:
    _, lease = await server.running()
    await server.append(lease, *(token(lease, seq) for seq in range(2, 12)))
    assert lease.first + 10 > cut_to_the_letter
    await archived(server, lease.thread_id, lease.first + 10)
    assert (await server.records(lease.thread_id))[0].position == lease.first


async def test_a_late_report_takes_nothing_back(server: LogServer) -> None:
    thread = await server.thread()
    await server.posted(thread)
    await archived(server, thread, 2)
    await archived(server, thread, 1)
    await server.retention.report(0, "processing", {thread: 1})
    found = await server.hot.thread(thread)
    assert found is not None
    assert (found.archived, found.processing, found.state) == (2, 1, "ACTIVE")


async def test_lists_stay_dirty_until_the_last_change_is_archived(server: LogServer) -> None:
    thread = await server.thread()
    await server.posted(thread)
    await archived(server, thread, 1)
    assert [one.thread_id for one in await server.hot.dirty_threads("alice")] == [thread]
    await archived(server, thread, 2)
    assert await server.hot.dirty_threads("alice") == []


async def test_jobs_leave_when_they_are_reported(server: LogServer) -> None:
    _, lease = await server.running()
    await server.finish(lease, 2)
    name = KEYS.job(lease.job_id)
    assert await server.redis.ttl(name) == -1
    await server.retention.report(0, "archived", {lease.thread_id: 4}, finished_jobs=[lease.job_id])
    assert 0 < await server.redis.ttl(name) <= IDLE_TTL_SECONDS


async def test_a_report_on_what_was_let_go_is_harmless(server: LogServer) -> None:
    thread = await server.thread()
    await server.redis.delete(KEYS.thread(thread), KEYS.thread_events(thread))
    await server.retention.report(0, "archived", {thread: 1}, finished_jobs=["job_unknown"])
    assert await server.hot.thread(thread) is None


async def test_the_log_is_cut_behind_what_is_acknowledged(server: LogServer) -> None:
    _, lease = await server.running()
    await server.append(lease, *(token(lease, seq) for seq in range(2, 7)))
    assert await server.retention.trim(0) == 0  # nobody has read
    ids = await server.read_log(0, "p1", 6)
    assert await server.retention.trim(0) == 0  # read, not acknowledged
    await server.acknowledge(0, [ids[0], ids[1], ids[3]])
    assert await server.retention.trim(0) == 2  # the third is pending
    await server.acknowledge(0, ids)
    assert await server.retention.trim(0) == 3  # all but the last one delivered
    assert await server.retention.trim(0) == 0
    assert len(await server.read_log(0, "p1", 100)) == 2


async def test_the_log_waits_for_its_slowest_group(server: LogServer) -> None:
    await server.redis.xgroup_create(KEYS.log, "auditors", id="0")
    thread = await server.thread()
    await server.posted(thread)
    await server.acknowledge(0, await server.read_log(0, "p1", 10))
    assert await server.retention.trim(0) == 0
    reply = await server.redis.xreadgroup("auditors", "a", {KEYS.log: ">"}, noack=True)
    assert reply
    assert await server.retention.trim(0) == 1


async def test_a_log_without_groups_or_entries_is_left_alone(redis: RepeatingRedis) -> None:
    server = LogServer(redis)
    assert await server.retention.trim(0) == 0
    await server.thread()
    assert await server.retention.trim(0) == 0


@pytest.mark.parametrize("repeats", [False, True])
async def test_a_bad_command_becomes_a_dead_letter(
    server: LogServer, redis: RepeatingRedis, repeats: bool
) -> None:
    client = server.redis
    entry_id = await client.xadd(KEYS.commands, {"j": "x", "d": "no json"})
    await client.xreadgroup("orchestrators", "w1", {KEYS.commands: ">"})
    redis.repeats = repeats
    moved = await DeadLetters(redis).move_command(KEYS, entry_id.decode(), "undecodable")
    assert moved is not repeats
    [(_, row)] = await client.xrange(KEYS.dead)
    assert (row[b"d"], row[b"reason"], row[b"entry"]) == (b"no json", b"undecodable", entry_id)
    assert await client.xlen(KEYS.commands) == 0
    assert (await client.xpending(KEYS.commands, "orchestrators"))["pending"] == 0
