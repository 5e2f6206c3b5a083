"""unread_count: what others and agents have said behind the last message one has read."""

from __future__ import annotations

import pytest

from shared.settings import Settings
from tests.integration.api.gateways import (
    Client,
    Network,
    Running,
    proxied,
    running_gateway,
)
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.worker import Worker


async def unread(client: Client, thread_id: str) -> int | None:
    """As the thread says, and the list of threads too."""
    (listed,) = [
        item["unread_count"]
        for item in (await client.ok("GET", "/v1/threads"))["items"]
        if item["thread_id"] == thread_id
    ]
    assert (await client.ok("GET", f"/v1/threads/{thread_id}"))["unread_count"] == listed
    return listed


async def read(client: Client, thread_id: str, message_id: str) -> int | None:
    body = {"message_id": message_id}
    return (await client.ok("POST", f"/v1/threads/{thread_id}/read", json=body))["unread_count"]


@pytest.mark.parametrize("archived", ["nothing", "questions", "all"])
async def test_what_others_say_is_counted(
    gateway: Running, client: Client, worker: Worker, settings: Settings, user: str, archived: str
) -> None:
    guest = f"{user}-guest"
    first = await worker.ask(client, "one")
    thread_id = first.lease.thread_id
    await first.end()
    async with gateway.client(guest) as other:
        await client.ok("PUT", f"/v1/threads/{thread_id}/participants/{guest}")
        assert (await unread(client, thread_id), await unread(other, thread_id)) == (1, 0)
        second = await worker.ask(other, "two", thread_id=thread_id)
        if archived == "questions":
            await archive_all(settings, worker.redis)
        assert (await unread(client, thread_id), await unread(other, thread_id)) == (2, 0)
        await second.end()
        if archived == "all":
            await archive_all(settings, worker.redis)
            await let_go(worker, thread_id)
        assert (await unread(client, thread_id), await unread(other, thread_id)) == (3, 1)
        assert await read(client, thread_id, first.command.reply_id) == 2
        assert await read(client, thread_id, second.command.reply_id) == 0
        assert await read(client, thread_id, first.command.message_id) == 0, "it went back"
        assert (await unread(client, thread_id), await unread(other, thread_id)) == (0, 1)
        await archive_all(settings, worker.redis)
        await let_go(worker, thread_id)
        assert (await unread(client, thread_id), await unread(other, thread_id)) == (0, 1)


async def test_reading_does_not_move_a_thread_to_the_front(client: Client, worker: Worker) -> None:
    old, new = await worker.ask(client), await worker.ask(client)
    await read(client, old.lease.thread_id, old.command.message_id)
    page = await client.ok("GET", "/v1/threads")
    assert [item["thread_id"] for item in page["items"]] == [
        new.lease.thread_id,
        old.lease.thread_id,
    ]


async def test_a_message_of_another_thread_is_none(client: Client, worker: Worker) -> None:
    one, other = await worker.ask(client), await worker.ask(client)
    for message_id in (other.command.message_id, one.command.reply_id, "msg_x", ""):
        path, body = f"/v1/threads/{one.lease.thread_id}/read", {"message_id": message_id}
        assert await client.problem("POST", path, json=body) == (404, "not_found")


async def test_a_count_that_nobody_can_know(
    client: Client, worker: Worker, settings: Settings, user: str
) -> None:
    """Without Postgres a thread in Redis is still there."""
    attempt = await worker.ask(client)
    await attempt.end()
    await archive_all(settings, worker.redis)
    path = f"/v1/threads/{attempt.lease.thread_id}"
    assert (await client.ok("GET", path))["unread_count"] == 1
    async with proxied(settings) as (network, through), running_gateway(through) as lonely:
        Network.cut(network.postgres)
        async with lonely.client(user) as alone:
            assert (await alone.ok("GET", path))["unread_count"] is None
