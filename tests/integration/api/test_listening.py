"""Who listens before a question is asked hears all of its answer, and reads only what it missed."""

from __future__ import annotations

import pytest

from services.api import feed, pages
from services.api.follower import Follower
from shared.codec import Record
from shared.hot_state import READ_COUNT_MAX
from shared.thread_stream import Page, ThreadStream
from tests.integration.api.gateways import Client, Running
from tests.integration.api.test_feed import events_of_thread, is_level, is_listening
from tests.integration.api.test_follower import history, offer, read, thread_of
from tests.integration.api.worker import Worker

__all__ = ["history"]  # a fixture


class Unread(ThreadStream):
    """Whoever asks it has not heard enough."""

    async def behind(self, thread_id: str, place: int, *, count: int = READ_COUNT_MAX) -> Page:
        raise AssertionError(f"{thread_id} is read behind {place}")


async def test_who_listens_from_before_reads_nothing(
    history: ThreadStream, worker: Worker, client: Client
) -> None:
    thread_id, records = await thread_of(worker, client, 8)
    follower = Follower(Unread(worker.hot, history._archive), thread_id, after=None)
    offer(follower, records[0])  # before it is subscribed for certain
    follower.confirm()
    offer(follower, *records[1:4])
    assert not follower.is_level
    follower.begin(2, lambda record: record.position != 4)
    assert await read(follower, 1) == records[2:3]
    offer(follower, *records[4:])
    assert await read(follower, 4) == records[4:]


async def test_who_listens_too_late_reads(
    history: ThreadStream, worker: Worker, client: Client
) -> None:
    thread_id, records = await thread_of(worker, client, 8)
    follower = Follower(history, thread_id, after=None)
    follower.begin(2, lambda _: True)
    follower.confirm()
    assert await read(follower, 6) == records[2:]


async def test_who_missed_something_while_it_listened_reads(
    history: ThreadStream, worker: Worker, client: Client
) -> None:
    thread_id, records = await thread_of(worker, client, 8)
    follower = Follower(history, thread_id, after=None)
    follower.confirm()
    offer(follower, *records[:2])
    follower.confirm()  # the connection was lost, and the third with it
    offer(follower, *records[3:])
    follower.begin(2, lambda _: True)
    assert await read(follower, 6) == records[2:]


async def test_who_asks_where_the_gateway_listens_costs_no_read(
    gateway: Running, client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = await worker.ask(client)
    thread_id = attempt.lease.thread_id
    reads = list[int]()
    read = pages.Pages.read

    async def counted(self: pages.Pages, cursor: int, known: Record | None) -> Page:
        reads.append(cursor)
        return await read(self, cursor, known)

    async with client.stream_events(events_of_thread(attempt)):
        await is_listening(gateway, attempt)
        await attempt.end()
        await is_level(gateway)
        monkeypatch.setattr(feed.Feed, "_silent", lambda _: {})  # a sweep may be quicker to see
        monkeypatch.setattr(pages.Pages, "read", counted)
        path, body = f"/v1/threads/{thread_id}/messages", {"content": "hi", "stream": True}
        async with client.stream_events(path, method="POST", json=body) as stream:
            await worker.answer(stream.response.headers["Location"].rpartition("/")[2])
            events = [frame.event for frame in await stream.rest()]
    assert events == ["started", "token", "token", "done"]
    assert reads == []
