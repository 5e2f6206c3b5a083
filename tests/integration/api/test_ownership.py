"""Yours is yours: another's thing answers byte for byte like one that does not exist.

The calls are taken from the OpenAPI document, so a new route is tried as soon as it is described.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

import httpx
import pytest

from shared.settings import Settings
from tests.integration.api.gateways import Client, Running
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.worker import Worker

BODIES: dict[str, Any] = {
    "/v1/jobs": {"query": "hi", "thread_id": "{thread_id}"},
    "/v1/threads/{thread_id}": {"title": "mine now"},
    "/v1/threads/{thread_id}/messages": {"content": "hi"},
    "/v1/threads/{thread_id}/read": {"message_id": "{message_id}"},
}
QUERIES = ["", "after=1", "after=0", "format=json", "before={message_id}", "limit=5"]
KEYS = [{}, {"Idempotency-Key": "k"}, {"Last-Event-ID": "1"}]


async def calls(gateway: Running) -> list[tuple[str, str]]:
    """Method and path of every call that names a thing, in its path or body."""
    async with gateway.client(None) as anybody:
        document = await anybody.ok("GET", "/schema/openapi.json")
    return [
        (method, path)
        for path, item in document["paths"].items()
        for method in item
        if "{" in path or path in BODIES
    ]


async def ask(
    client: Client, method: str, path: str, ids: dict[str, str], more: tuple[str, dict[str, str]]
) -> httpx.Response:
    query, headers = more
    body = BODIES.get(path)
    if body is not None and method != "get":
        body = {name: value.format(**ids) for name, value in body.items()}
    else:
        body = None
    address = f"{path}?{query}".format(**ids)
    return await client.request(method, address, json=body, headers=headers)


def comparable(response: httpx.Response, ids: dict[str, str]) -> tuple[Any, ...]:
    headers = {
        name: value
        for name, value in response.headers.items()
        if name not in ("date", "x-request-id")
    }
    return response.status_code, response.content, headers


def unlike(ids: dict[str, str]) -> dict[str, str]:
    """Well-formed ids of things that do not exist."""
    return {
        name: re.sub(r"[0-9a-f]{24}$", lambda _: secrets.token_hex(12), value)
        for name, value in ids.items()
    }


@pytest.mark.parametrize("where", ["redis", "archive"])
async def test_anothers_thing_is_no_thing(
    gateway: Running, client: Client, worker: Worker, settings: Settings, user: str, where: str
) -> None:
    attempt = await worker.ask(client, "a secret")
    await attempt.say("another")
    await attempt.end()
    command = attempt.command
    ids = {
        "thread_id": command.thread_id,
        "job_id": command.job_id,
        "message_id": command.message_id,
        "user": f"{user}-stranger",
    }
    before = await worker.records(command.thread_id)
    if where == "archive":
        await archive_all(settings, worker.redis)
        await let_go(worker, command.thread_id)
    tried = 0
    async with gateway.client(f"{user}-stranger") as stranger:
        for method, path in await calls(gateway):
            for more in [(query, headers) for query in QUERIES for headers in KEYS]:
                theirs = await ask(stranger, method, path, ids, more)
                nobodys = await ask(stranger, method, path, unlike(ids), more)
                assert theirs.status_code == 404, (method, path, theirs.text)
                assert comparable(theirs, ids) == comparable(nobodys, ids), (method, path)
                tried += 1
        assert await stranger.ok("GET", "/v1/threads") == {"items": [], "next_cursor": None}
    assert tried >= 9 * len(QUERIES) * len(KEYS)
    if where == "redis":
        assert await worker.records(command.thread_id) == before
    assert (await client.ok("GET", f"/v1/jobs/{command.job_id}"))["content"] == "another"


async def test_a_cursor_of_another_list_tells_nothing(
    gateway: Running, client: Client, user: str
) -> None:
    for _ in range(3):
        await client.ok("POST", "/v1/threads", json={"title": "secret"})
    cursor = (await client.ok("GET", "/v1/threads?limit=1"))["next_cursor"]
    async with gateway.client(f"{user}-stranger") as stranger:
        await stranger.ok("POST", "/v1/threads", json={"title": "theirs"})
        page = await stranger.ok("GET", f"/v1/threads?cursor={cursor}")
    assert [item["title"] for item in page["items"]] in ([], ["theirs"])


async def test_a_message_of_another_thread_is_no_place(client: Client, worker: Worker) -> None:
    one, other = await worker.ask(client), await worker.ask(client)
    path = f"/v1/threads/{one.lease.thread_id}/messages?before={other.command.message_id}"
    assert await client.problem("GET", path) == (400, "bad_cursor")
