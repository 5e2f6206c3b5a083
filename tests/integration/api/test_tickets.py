"""Tickets: how a browser, which cannot send a header, follows what is its user's."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.api.viewing import Viewing
from shared.keys import TICKET_SECONDS
from shared.redis_client import Redis
from shared.settings import Settings
from shared.tickets import Holder, Tickets
from tests.integration.api.gateways import PARTITIONS, Client, Running, problem_of, token_for
from tests.integration.api.sse_client import Stream
from tests.integration.api.test_drain import process_of, ready
from tests.integration.api.waiting import eventually, soon
from tests.integration.api.worker import Attempt, Worker

REFUSED = (401, "unauthorized")


async def ticket_for(client: Client, **thing: str) -> str:
    made = await client.ok("POST", "/v1/tickets", json=thing)
    assert made.keys() == {"ticket", "expires_in"}
    return made["ticket"]


def paths_of(attempt: Attempt) -> dict[str, tuple[dict[str, str], str]]:
    """What a ticket may be asked for, and the stream it is good for."""
    command = attempt.command
    return {
        "thread": ({"thread_id": command.thread_id}, f"/v1/threads/{command.thread_id}/events"),
        "job": ({"job_id": command.job_id}, f"/v1/jobs/{command.job_id}/events"),
    }


def visit(gateway: Running, path: str, ticket: str, query: str = "") -> Stream:
    """A browser's: nothing but the address."""
    return Stream(f"{gateway.url}{path}?ticket={ticket}{query}", {})


async def refusal(gateway: Running, path: str, query: str, **headers: str) -> tuple[int, str]:
    async with gateway.client(None, **headers) as anybody:
        response = await anybody.get(f"{path}?{query}")
        reference = await anybody.get("/v1/threads", headers={"Authorization": "x"})
    assert response.content == reference.content
    return problem_of(response)


@pytest.mark.parametrize("kind", ["thread", "job"])
async def test_a_ticket_opens_one_stream_once(
    gateway: Running, client: Client, worker: Worker, kind: str
) -> None:
    attempt = await worker.ask(client)
    await attempt.say("hello")
    thing, path = paths_of(attempt)[kind]
    ticket = await ticket_for(client, **thing)
    async with visit(gateway, path, ticket) as stream:
        assert "token" in [frame.event for frame in await stream.take(2 if kind == "job" else 4)]
        await attempt.say("again")
        await stream.take(1)
        assert await refusal(gateway, path, f"ticket={ticket}") == REFUSED
    assert await refusal(gateway, path, f"ticket={ticket}") == REFUSED


async def test_a_ticket_resumes_where_it_is_told_to(
    gateway: Running, client: Client, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    await attempt.say("one")
    await attempt.end()
    thing, path = paths_of(attempt)["job"]
    async with visit(gateway, path, await ticket_for(client, **thing), "&after=1") as stream:
        assert [frame.event for frame in await soon(stream.rest())] == ["token", "done"]


async def test_a_ticket_is_for_nothing_else(
    gateway: Running, client: Client, worker: Worker
) -> None:
    one, other = await worker.ask(client), await worker.ask(client)
    thing, path = paths_of(one)["thread"]
    ticket = await ticket_for(client, **thing)
    command = one.command
    elsewhere = [
        paths_of(one)["job"][1],
        paths_of(other)["thread"][1],
        f"/v1/threads/{command.thread_id}",
        f"/v1/threads/{command.thread_id}/messages",
        "/v1/threads",
    ]
    for place in elsewhere:
        assert await refusal(gateway, place, f"ticket={ticket}") == REFUSED, place
    async with gateway.client(None) as anybody:
        asked = await anybody.problem("POST", f"/v1/tickets?ticket={ticket}", json=thing)
    assert asked == REFUSED
    async with visit(gateway, path, ticket) as stream:  # and none of it has used it up
        await stream.take(1)


@pytest.mark.parametrize("query", ["ticket=", "ticket=x", f"ticket={'A' * 43}", "ticket=%00"])
async def test_a_ticket_that_was_never_made_is_refused(
    gateway: Running, client: Client, worker: Worker, query: str
) -> None:
    for _, path in paths_of(await worker.ask(client)).values():
        assert await refusal(gateway, path, query) == REFUSED


async def test_two_ways_to_say_who_calls_are_too_many(
    gateway: Running, client: Client, worker: Worker, user: str
) -> None:
    thing, path = paths_of(await worker.ask(client))["thread"]
    ticket, second = [await ticket_for(client, **thing) for _ in range(2)]
    bearer = {"Authorization": f"Bearer {token_for(user)}"}
    assert await refusal(gateway, path, f"ticket={ticket}", **bearer) == REFUSED
    assert await refusal(gateway, path, f"ticket={ticket}&ticket={second}") == REFUSED


async def test_an_unknown_or_foreign_thing_gets_no_ticket(
    gateway: Running, client: Client, worker: Worker, user: str
) -> None:
    attempt = await worker.ask(client)
    async with gateway.client(f"{user}-stranger") as stranger:
        for thing, _ in paths_of(attempt).values():
            nothing = {name: re.sub(".{8}$", "0" * 8, value) for name, value in thing.items()}
            foreign = await stranger.post("/v1/tickets", json=thing)
            missing = await stranger.post("/v1/tickets", json=nothing)
            assert problem_of(foreign) == (404, "not_found")
            assert foreign.content == missing.content


@pytest.mark.parametrize(
    "body", [{}, {"thread_id": None}, {"thread_id": "a", "job_id": "b"}, {"thread_id": 1}, {"x": 1}]
)
async def test_a_ticket_is_for_exactly_one_thing(client: Client, body: dict[str, Any]) -> None:
    assert await client.problem("POST", "/v1/tickets", json=body) == (400, "invalid_request")


async def test_what_is_said_of_a_ticket_is_true(
    gateway: Running, client: Client, worker: Worker, user: str
) -> None:
    """It is kept by nobody on the way, and does not outlive its token."""
    thing, _ = paths_of(await worker.ask(client))["job"]
    response = await client.post("/v1/tickets", json=thing)
    assert (response.status_code, response.headers["Cache-Control"]) == (201, "no-store")
    assert response.json()["expires_in"] == TICKET_SECONDS == 30
    async with gateway.client(None) as brief:
        brief.headers["Authorization"] = f"Bearer {token_for(user, seconds=10)}"
        assert 8 <= (await brief.ok("POST", "/v1/tickets", json=thing))["expires_in"] <= 10


async def test_a_ticket_stands_for_the_token_that_asked(
    client: Client, worker: Worker, user: str, redis: Redis
) -> None:
    command = (await worker.ask(client)).command
    claims = {"Authorization": f"Bearer {token_for(user, exp=2_000_000_000)}"}
    tickets = Tickets(redis, PARTITIONS)
    for session_id in ("phone", None):
        client.headers.update({**claims, **({"X-Session-Id": session_id} if session_id else {})})
        ticket = await ticket_for(client, thread_id=command.thread_id)
        client.headers.pop("X-Session-Id", None)
        held = await tickets.redeem(ticket, command.thread_id)
        assert held == Holder(user, session_id, 2_000_000_000)


async def test_what_opens_a_stream_stands_in_no_log(
    client: Client, worker: Worker, settings: Settings, tmp_path: Path, user: str
) -> None:
    """Neither ticket nor token, however much is logged; the path of the request is there."""
    thing, path = paths_of(await worker.ask(client))["thread"]
    token = token_for(user)
    async with process_of(settings, tmp_path, HEADWATER_LOG_LEVEL="DEBUG") as (process, port):
        await ready(process, tmp_path)
        tickets = [await ticket_for(client, **thing) for _ in range(2)]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=False) as browser:
            assert (await browser.get(f"{path}?after=x&ticket={tickets[0]}")).status_code == 400
            assert (await browser.get(f"{path}?ticket={tickets[0]}")).status_code == 401
            assert (await browser.get(f"{path}?ticket={token}")).status_code == 400
            headers = {"Authorization": f"Bearer {token}"}
            assert (await browser.get("/v1/threads", headers=headers)).status_code == 200
            made = await browser.post("/v1/tickets", json=thing, headers=headers)
        async with Stream(f"http://127.0.0.1:{port}{path}?ticket={tickets[1]}", {}) as stream:
            await stream.take(1)
        process.terminate()
        _, logged = await process.communicate()
    assert path in logged.decode()
    for secret in (*tickets, made.json()["ticket"], token, token.rsplit(".", 1)[1]):
        assert secret not in logged.decode()


async def test_a_ticket_ends_with_its_token(
    gateway: Running, client: Client, worker: Worker, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    thing, path = paths_of(await worker.ask(client))["thread"]
    ends: list[int] = []
    through = Viewing.__init__

    def noted(self: Viewing, follower: Any, view: Any, viewer: Any) -> None:
        ends.append(viewer.caller.expires_at)
        through(self, follower, view, viewer)

    monkeypatch.setattr(Viewing, "__init__", noted)
    async with gateway.client(None) as brief:
        token = token_for(user, seconds=3)
        brief.headers["Authorization"] = f"Bearer {token}"
        ticket = await ticket_for(brief, **thing)
    began = time.time()
    async with visit(gateway, path, ticket) as stream:
        frames = await soon(stream.rest())
    assert frames[-1].event == "reconnect"
    assert stream.ended_cleanly
    assert began < ends[0] <= began + 3
    assert ends[0] - 0.1 < time.time() < ends[0] + 1


async def test_an_idle_stream_ends_with_its_token_to_the_second(
    gateway: Running, client: Client, worker: Worker, user: str
) -> None:
    """Not with the next event, nor the next ping; and the follower is gone with it."""
    thread = await client.ok("POST", "/v1/threads", json={})
    path = f"/v1/threads/{thread['thread_id']}/events"
    expires_at = int(time.time()) + 3
    headers = {"Authorization": f"Bearer {token_for(user, exp=expires_at)}"}
    async with Stream(f"{gateway.url}{path}", headers) as stream:
        await stream.take(1)
        (last,) = await soon(stream.rest())
    assert (last.event, last.id) == ("reconnect", None)
    assert expires_at - 0.1 < time.time() < expires_at + 1
    await eventually(lambda: gateway.gateway.feed.follower_count == 0)
