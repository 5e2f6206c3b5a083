"""change_thread lets users in and out: who may, how many, and what they may then."""

from __future__ import annotations

import pytest

from shared.errors import NotFound, NotTheOwner, OwnerStays, ThreadCrowded
from shared.events import (
    MessageDeleted,
    ParticipantJoined,
    ParticipantLeft,
    ThreadDeleted,
    ThreadRead,
    ThreadUpdated,
)
from shared.thread_log import Thread
from tests.support.log_server import AT, ChannelEar, LogServer, RepeatingRedis

GUESTS = ("bob", "eve x", "zoë")


async def join(server: LogServer, thread: str, user: str, *, by: str = "alice") -> None:
    event = ParticipantJoined(thread_id=thread, at=AT, user=user)
    await server.threads.change_thread(by, event)


async def part(server: LogServer, thread: str, user: str, *, by: str = "alice") -> None:
    await server.threads.change_thread(by, ParticipantLeft(thread_id=thread, at=AT, user=user))


async def shared_thread(server: LogServer, *guests: str) -> str:
    thread = await server.thread()
    for guest in guests:
        await join(server, thread, guest)
    return thread


async def found(server: LogServer, thread: str) -> Thread:
    known = await server.hot.thread(thread)
    assert known is not None
    return known


async def dirty(server: LogServer, user: str) -> list[str]:
    return [one.thread_id for one in await server.hot.dirty_threads(user)]


async def test_a_guest_may_post(server: LogServer) -> None:
    thread = await shared_thread(server, *GUESTS)
    assert (await found(server, thread)).participants == GUESTS
    for guest in GUESTS:
        command = server.command(thread, user=guest)
        await server.post(command)
        job = await server.hot.job(command.job_id)
        assert job is not None
        assert job.owner == guest


async def test_who_is_out_may_not(server: LogServer) -> None:
    thread = await shared_thread(server, *GUESTS)
    for guest in GUESTS[::-1]:
        await part(server, thread, guest)
        with pytest.raises(NotFound):
            await server.post(server.command(thread, user=guest))
    assert (await found(server, thread)).participants == ()


@pytest.mark.parametrize("name", ["ob", "b", "bob\u2028", "alice bob", "Bob"])
async def test_a_part_of_a_name_is_not_the_name(server: LogServer, name: str) -> None:
    thread = await shared_thread(server, "bob", "alic")
    with pytest.raises(NotFound):
        await server.post(server.command(thread, user=name))


async def test_a_guest_does_not_rename(server: LogServer) -> None:
    thread = await shared_thread(server, "bob")
    event = ThreadUpdated(thread_id=thread, at=AT, title="mine")
    with pytest.raises(NotTheOwner):
        await server.threads.change_thread("bob", event)
    assert (await found(server, thread)).title is None


async def test_a_guest_neither_deletes_nor_invites(server: LogServer) -> None:
    thread = await shared_thread(server, "bob")
    with pytest.raises(NotTheOwner):
        await server.threads.change_thread("bob", ThreadDeleted(thread_id=thread, at=AT))
    with pytest.raises(NotTheOwner):
        await join(server, thread, "mallory", by="bob")
    assert await server.history(thread) == ["thread.created", "participant.joined"]


async def test_nobody_but_the_owner_takes_another_out(server: LogServer) -> None:
    thread = await shared_thread(server, "bob", "eve")
    with pytest.raises(NotTheOwner):
        await part(server, thread, "eve", by="bob")
    await part(server, thread, "bob", by="bob")
    assert (await found(server, thread)).participants == ("eve",)


async def test_an_owner_stays(server: LogServer) -> None:
    thread = await shared_thread(server, "bob")
    with pytest.raises(OwnerStays):
        await part(server, thread, "alice")
    with pytest.raises(NotTheOwner):
        await part(server, thread, "alice", by="bob")


async def test_a_thread_has_room_for_so_many(
    server: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.thread_log.PARTICIPANTS_MAX", len(GUESTS))
    thread = await shared_thread(server, *GUESTS)
    with pytest.raises(ThreadCrowded):
        await join(server, thread, "one more")
    await join(server, thread, GUESTS[1])  # is there
    await part(server, thread, GUESTS[0])
    await join(server, thread, "one more")


async def test_what_is_so_already_is_no_change(server: LogServer) -> None:
    thread = await shared_thread(server, "bob", "bob", "alice")
    await part(server, thread, "bob")
    await part(server, thread, "bob")
    types = ["thread.created", "participant.joined", "participant.left"]
    assert await server.history(thread) == types


async def test_joining_sent_again_is_one_change(server: LogServer, redis: RepeatingRedis) -> None:
    redis.repeats = True
    thread = await shared_thread(server, "bob")
    await part(server, thread, "bob")
    assert (await server.history(thread))[1:] == ["participant.joined", "participant.left"]


async def test_a_change_is_in_everybodys_list(server: LogServer) -> None:
    thread = await shared_thread(server, "bob")
    await server.retention.report(0, "archived", {thread: 2})
    assert await dirty(server, "bob") == []
    event = ThreadUpdated(thread_id=thread, at=AT, title="together")
    await server.threads.change_thread("alice", event)
    assert await dirty(server, "alice") == await dirty(server, "bob") == [thread]
    _, lease = await server.running(thread)
    await server.retention.report(0, "archived", {thread: 5})
    assert await dirty(server, "bob") == []
    await server.finish(lease, 2)
    assert await dirty(server, "bob") == [thread]


async def test_who_left_is_told_to_look_until_that_is_archived(server: LogServer) -> None:
    thread = await shared_thread(server, "bob")
    await server.retention.report(0, "archived", {thread: 2})
    await part(server, thread, "bob")
    assert await dirty(server, "bob") == [thread]
    await server.posted(thread)
    await server.retention.report(0, "archived", {thread: 3})
    assert await dirty(server, "bob") == [thread]
    await server.retention.report(0, "archived", {thread: 4})
    assert await dirty(server, "bob") == await dirty(server, "alice") == []
    await server.posted(thread)
    assert await dirty(server, "bob") == []


async def read(server: LogServer, thread: str, user: str, upto: int) -> None:
    later = AT.replace("2026", "2027")
    event = ThreadRead(thread_id=thread, at=later, user=user, message_id="msg_1", upto=upto)
    await server.threads.change_thread(user, event)


async def test_reading_goes_onward_and_moves_nothing_else(server: LogServer) -> None:
    thread = await shared_thread(server, "bob")
    for upto in (5, 3, 5, 9):
        await read(server, thread, "bob", upto)
    known = await found(server, thread)
    assert known.reads == {"bob": 9}
    assert (known.position, known.updated_at) == (4, AT)
    assert await dirty(server, "alice") == [thread]


async def test_who_is_let_in_has_nothing_unread(server: LogServer) -> None:
    thread = await shared_thread(server, "bob")
    await read(server, thread, "alice", 1)
    assert (await found(server, thread)).reads == {"alice": 1, "bob": 2}
    await part(server, thread, "bob")
    assert (await found(server, thread)).reads == {"alice": 1}
    await join(server, thread, "bob")
    assert (await found(server, thread)).reads == {"alice": 1, "bob": 5}


async def test_a_stranger_reads_nothing(server: LogServer) -> None:
    thread = await server.thread()
    with pytest.raises(NotFound):
        await read(server, thread, "bob", 1)


async def test_deleting_a_message_ends_its_job_first(server: LogServer, ear: ChannelEar) -> None:
    _, lease = await server.running()
    waiting = await server.posted(lease.thread_id)
    for job_id in (waiting.job_id, lease.job_id):
        event = MessageDeleted(
            thread_id=lease.thread_id, at=AT, message_id="msg_1", job_id=job_id, user="alice"
        )
        await server.threads.change_thread("alice", event)
    types = (await server.history(lease.thread_id))[3:]
    assert types == ["message.posted", "done", "message.deleted", "message.deleted"]
    await ear.catch_up()
    assert ear.woken == {lease.job_id}


async def test_a_name_is_not_taken_away(server: LogServer) -> None:
    thread = await server.thread()
    for title in ("first", "second"):
        event = ThreadUpdated(thread_id=thread, at=AT, title=title)
        await server.threads.name_thread("alice", event)
    assert (await found(server, thread)).title == "first"
    assert await server.history(thread) == ["thread.created", "thread.updated"]
