"""change_thread adds files to threads, with the events of their text right behind, once each."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import NotFound
from shared.events import FileAdded, FileDeleted, FilePassages, ParticipantJoined, ThreadDeleted
from shared.ids import new_file_id
from tests.support.log_server import AT, ChannelEar, LogServer

LATER = "2026-11-21T12:00:00.000Z"


def file_in(thread: str, *, user: str = "alice", at: str = AT) -> FileAdded:
    return FileAdded(
        thread_id=thread,
        at=at,
        file_id=new_file_id(thread),
        user=user,
        name="a.txt",
        media_type="text/plain",
        size=1,
        sha256="0" * 64,
    )


def text_of(file: FileAdded) -> list[FilePassages]:
    head: dict[str, Any] = {"thread_id": file.thread_id, "at": AT, "file_id": file.file_id}
    return [FilePassages(**head, first=n, texts=(f"text {n}",)) for n in (1, 2)]


async def test_a_file_comes_with_its_text(server: LogServer, ear: ChannelEar) -> None:
    thread = await server.thread()
    await ear.listen({thread: server.keys(thread).thread(thread)})
    added = file_in(thread)
    await server.threads.change_thread("alice", added, behind=text_of(added))
    records = await server.hot.records(thread, after=1)
    assert [(r.position, r.seq, r.type) for r in records] == [
        (2, 2, "file.added"),
        (3, 3, "file.passages"),
        (4, 4, "file.passages"),
    ]
    found = await server.hot.thread(thread)
    assert found is not None
    assert (found.position, found.seq) == (4, 4)
    await ear.catch_up()
    assert ear.heard[thread] == records


async def test_a_file_is_added_once(server: LogServer) -> None:
    thread = await server.thread()
    added = file_in(thread)
    for _ in range(3):
        await server.threads.change_thread("alice", added, behind=text_of(added))
    await server.threads.change_thread("alice", file_in(thread))
    kinds = [record.type for record in await server.hot.records(thread, after=1)]
    assert kinds == ["file.added", "file.passages", "file.passages", "file.added"]


async def test_a_guest_may_add_a_file_and_a_stranger_may_not(server: LogServer) -> None:
    thread = await server.thread()
    joined = ParticipantJoined(thread_id=thread, at=AT, user="bob")
    await server.threads.change_thread("alice", joined)
    added = file_in(thread, user="bob")
    await server.threads.change_thread("bob", added)
    await server.threads.change_thread(
        "bob", FileDeleted(thread_id=thread, at=AT, file_id=added.file_id, user="bob")
    )
    with pytest.raises(NotFound):
        await server.threads.change_thread("eve", file_in(thread, user="eve"))
    await server.threads.change_thread("alice", ThreadDeleted(thread_id=thread, at=AT))
    with pytest.raises(NotFound):
        await server.threads.change_thread("alice", file_in(thread))


async def test_adding_moves_a_thread_to_the_front_and_deleting_does_not(server: LogServer) -> None:
    thread = await server.thread()
    added = file_in(thread, at=LATER)
    await server.threads.change_thread("alice", added)
    even_later = LATER.replace("12", "13")
    deleted = FileDeleted(thread_id=thread, at=even_later, file_id=added.file_id, user="alice")
    await server.threads.change_thread("alice", deleted)
    found = await server.hot.thread(thread)
    assert found is not None
    assert found.updated_at == LATER
