"""Several users in one thread: who is let in, what they may, and what ends when they go."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from shared.settings import Settings
from shared.thread_log import PARTICIPANTS_MAX
from tests.integration.api.gateways import Client, Running
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.waiting import eventually, soon
from tests.integration.api.worker import Worker

WHERE = ("redis", "archive")


@pytest_asyncio.fixture(loop_scope="module")
async def guest(gateway: Running, user: str) -> AsyncGenerator[Client]:
    async with gateway.client(name_of_guest(user)) as client:
        yield client


def name_of_guest(user: str) -> str:
    return f"{user} | gäst"


async def invite(client: Client, thread_id: str, name: str) -> Any:
    return await client.ok("PUT", place(thread_id, name))


def place(thread_id: str, name: str) -> str:
    return f"/v1/threads/{thread_id}/participants/{quote(name)}"


async def moved(where: str, settings: Settings, worker: Worker, thread_id: str) -> None:
    """With ``archive`` the thread is in Postgres alone from here on."""
    if where == "archive":
        await archive_all(settings, worker.redis)
        await let_go(worker, thread_id)


async def listed(client: Client) -> list[str]:
    return [item["thread_id"] for item in (await client.ok("GET", "/v1/threads"))["items"]]


@pytest.mark.parametrize("where", WHERE)
async def test_a_guest_reads_and_writes(
    client: Client, guest: Client, worker: Worker, settings: Settings, user: str, where: str
) -> None:
    attempt = await worker.ask(client, "ours")
    await attempt.say("said")
    await attempt.end()
    thread_id = attempt.lease.thread_id
    view = await invite(client, thread_id, name_of_guest(user))
    assert (view["owner"], view["participants"]) == (user, [name_of_guest(user)])
    await moved(where, settings, worker, thread_id)
    assert await listed(guest) == [thread_id]
    theirs = await guest.ok("GET", f"/v1/threads/{thread_id}")
    assert theirs["participants"] == [name_of_guest(user)]
    messages = await guest.ok("GET", f"/v1/threads/{thread_id}/messages")
    assert [item["content"] for item in messages["items"]] == ["ours", "said"]
    job = await guest.ok("GET", f"/v1/jobs/{attempt.lease.job_id}")
    assert job["content"] == "said"
    answered = await worker.ask(guest, "mine too", thread_id=thread_id)
    async with client.stream_events(f"/v1/jobs/{answered.lease.job_id}/events") as stream:
        await answered.end()
        assert (await stream.rest())[-1].event == "done"
    last = (await client.ok("GET", f"/v1/threads/{thread_id}/messages"))["items"][-2]
    assert last["author"] == name_of_guest(user)
    assert await listed(client) == await listed(guest) == [thread_id]


@pytest.mark.parametrize("where", WHERE)
async def test_who_is_out_finds_nothing(
    client: Client, guest: Client, worker: Worker, settings: Settings, user: str, where: str
) -> None:
    attempt = await worker.ask(client)
    await attempt.end()
    thread_id, job_id = attempt.lease.thread_id, attempt.lease.job_id
    await invite(client, thread_id, name_of_guest(user))
    await guest.ok("DELETE", place(thread_id, name_of_guest(user)))
    await moved(where, settings, worker, thread_id)
    assert await listed(guest) == []
    for path in (f"/v1/threads/{thread_id}", f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/events"):
        assert await guest.problem("GET", path) == (404, "not_found")
    body = {"query": "hi", "thread_id": thread_id}
    assert await guest.problem("POST", "/v1/jobs", json=body) == (404, "not_found")
    view = await client.ok("GET", f"/v1/threads/{thread_id}")
    assert view["participants"] == []
    await invite(client, thread_id, name_of_guest(user))
    assert await listed(guest) == [thread_id]


async def test_what_only_the_owner_may(client: Client, guest: Client, user: str) -> None:
    thread_id = (await client.ok("POST", "/v1/threads", json={"title": "t"}))["thread_id"]
    await invite(client, thread_id, name_of_guest(user))
    await invite(client, thread_id, "third")
    path = f"/v1/threads/{thread_id}"
    refused = (403, "not_the_owner")
    assert await guest.problem("PATCH", path, json={"title": "mine"}) == refused
    assert await guest.problem("DELETE", path) == refused
    assert await guest.problem("PUT", place(thread_id, "friend")) == refused
    assert await guest.problem("DELETE", place(thread_id, "third")) == refused
    assert await client.problem("DELETE", place(thread_id, user)) == (409, "owner_stays")
    view = await client.ok("GET", path)
    assert (view["title"], view["participants"]) == ("t", [name_of_guest(user), "third"])


async def test_both_calls_may_be_repeated(client: Client, user: str) -> None:
    thread_id = (await client.ok("POST", "/v1/threads", json={}))["thread_id"]
    for _ in range(2):
        view = await invite(client, thread_id, "bob")
        assert (view["participants"], view["last_position"]) == (["bob"], 2)
    assert (await invite(client, thread_id, user))["last_position"] == 2
    for _ in range(2):
        await client.ok("DELETE", place(thread_id, "bob"))
    assert (await client.ok("GET", f"/v1/threads/{thread_id}"))["last_position"] == 3


async def test_a_thread_is_full_some_time(client: Client) -> None:
    thread_id = (await client.ok("POST", "/v1/threads", json={}))["thread_id"]
    for number in range(PARTICIPANTS_MAX):
        await invite(client, thread_id, f"guest {number}")
    refused = await client.problem("PUT", place(thread_id, "one more"))
    assert refused == (409, "thread_crowded")


@pytest.mark.parametrize("name", ["x" * 129, "a\nb", "a\0b"])
async def test_a_user_nobody_can_be(client: Client, name: str) -> None:
    thread_id = (await client.ok("POST", "/v1/threads", json={}))["thread_id"]
    for method in ("PUT", "DELETE"):
        refused = await client.problem(method, place(thread_id, name))
        assert refused == (400, "invalid_request")


async def test_open_streams_end_for_who_is_taken_out(
    client: Client, guest: Client, worker: Worker, user: str
) -> None:
    attempt = await worker.ask(client)
    thread_id, job_id = attempt.lease.thread_id, attempt.lease.job_id
    await invite(client, thread_id, name_of_guest(user))
    feed, job = f"/v1/threads/{thread_id}/events", f"/v1/jobs/{job_id}/events"
    async with (
        guest.stream_events(feed) as their_feed,
        guest.stream_events(job) as their_job,
        client.stream_events(feed) as my_feed,
        client.stream_events(job) as my_job,
    ):
        await their_job.take(1)
        await client.ok("DELETE", place(thread_id, name_of_guest(user)))
        await attempt.say("a secret")
        await attempt.end()
        assert [frame.event for frame in await soon(their_feed.rest())][-1] == "participant.left"
        assert [frame.event for frame in await soon(their_job.rest())] == ["reconnect"]
        assert [frame.event for frame in await my_job.rest()][-1] == "done"
        await my_feed.take(7)
    assert not [frame for frame in their_feed.frames if frame.event in ("token", "done")]
    assert [f.event for f in my_feed.frames][-3:] == ["participant.left", "token", "done"]


async def test_who_came_back_reads_on_behind_the_farewell(
    client: Client, guest: Client, worker: Worker, user: str
) -> None:
    attempt = await worker.ask(client)
    thread_id = attempt.lease.thread_id
    await invite(client, thread_id, name_of_guest(user))
    await client.ok("DELETE", place(thread_id, name_of_guest(user)))
    await invite(client, thread_id, name_of_guest(user))
    await attempt.end()
    async with guest.stream_events(f"/v1/threads/{thread_id}/events") as feed:
        await feed.take(7)
    types = ["participant.joined", "participant.left", "participant.joined", "done"]
    assert [frame.event for frame in feed.frames][3:] == types
    async with guest.stream_events(f"/v1/jobs/{attempt.lease.job_id}/events") as job:
        assert [frame.event for frame in await job.rest()] == ["started", "done"]


async def test_a_guest_may_cancel(client: Client, guest: Client, worker: Worker, user: str) -> None:
    attempt = await worker.ask(client)
    await invite(client, attempt.lease.thread_id, name_of_guest(user))
    view = await guest.ok("POST", f"/v1/jobs/{attempt.lease.job_id}/cancel")
    assert view["status"] == "running"
    await attempt.end("cancelled")


async def test_a_list_is_one_of_own_and_joined(
    client: Client, guest: Client, worker: Worker, settings: Settings, user: str
) -> None:
    """In one order, over pages, whether archived or not."""
    made: list[str] = []
    for number in range(9):
        owner = client if number % 2 else guest
        thread = await owner.ok("POST", "/v1/threads", json={"title": f"{number}"})
        made.append(thread["thread_id"])
        if number % 2:
            await invite(client, made[-1], name_of_guest(user))
        if number == 5:
            await archive_all(settings, worker.redis)

    async def pages() -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            page = await guest.ok("GET", f"/v1/threads?limit=2{cursor}")
            found += [item["thread_id"] for item in page["items"]]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    assert await pages() == made[::-1]
    await archive_all(settings, worker.redis)
    assert await pages() == made[::-1]

    async def is_gone() -> bool:
        return made[1] not in await pages()

    await client.ok("DELETE", f"/v1/threads/{made[1]}")
    await eventually(is_gone)
