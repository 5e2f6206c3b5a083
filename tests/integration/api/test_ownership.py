"""Yours is yours: another's thing answers byte for byte like one that does not exist.

The calls are taken from the OpenAPI document, so a new route is tried as soon as it is described.
"""

from __future__ import annotations

import re
import secrets
from itertools import product
from typing import Any

import httpx
import pytest

from shared.ids import new_file_id
from shared.settings import Settings
from tests.integration.api.described_calls import DescribedCall, calls_naming_things
from tests.integration.api.gateways import Client, Running
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.test_openapi import OPEN
from tests.integration.api.worker import Worker
from tests.support.sample_files import picture

QUERIES = ["", "after=1", "after=0", "format=json", "before={message_id}", "limit=5"]
KEYS = [{}, {"Idempotency-Key": "k"}, {"Last-Event-ID": "1"}]
CALLS_MIN = 11  # that name a thing: fewer mean that the document is not read as it should be
NOT_COMPARED = re.compile(r"date|x-request-id|ratelimit.*")


async def document_of(gateway: Running) -> Any:
    async with gateway.client(None) as anybody:
        return await anybody.ok("GET", "/schema/openapi.json")


async def ask(
    client: Client, call: DescribedCall, ids: dict[str, str], query: str, headers: dict[str, str]
) -> httpx.Response:
    sent = call.request(ids)
    sent["params"] |= dict([query.format(**ids).split("=")] if query else [])
    return await client.request(**sent, headers=headers)


def comparable(response: httpx.Response, ids: dict[str, str]) -> tuple[Any, ...]:
    headers = {
        name: value for name, value in response.headers.items() if not NOT_COMPARED.fullmatch(name)
    }
    content = response.text
    for name, value in ids.items():
        content = content.replace(value, name)
    return response.status_code, content, headers


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
    path = f"/v1/threads/{command.thread_id}/files"
    added = await client.ok("POST", path, files={"file": ("a.png", picture())})
    ids = {
        "file_id": added["file_id"],
        "thread_id": command.thread_id,
        "job_id": command.job_id,
        "message_id": command.message_id,
        "user": f"{user}-stranger",
    }
    before = await worker.records(command.thread_id)
    if where == "archive":
        await archive_all(settings, worker.redis)
        await let_go(worker, command.thread_id)
    calls = calls_naming_things(await document_of(gateway), ids)
    assert len(calls) >= CALLS_MIN
    async with gateway.client(f"{user}-stranger") as stranger:
        for call, query, headers in product(calls, QUERIES, KEYS):
            nothing = unlike(ids)
            theirs = await ask(stranger, call, ids, query, headers)
            nobodys = await ask(stranger, call, nothing, query, headers)
            assert comparable(theirs, ids) == comparable(nobodys, nothing), call
            assert not call.must_be_missing or theirs.status_code == 404, (call, theirs.text)
        assert await stranger.ok("GET", "/v1/threads") == {"items": [], "next_cursor": None}
    if where == "redis":
        assert await worker.records(command.thread_id) == before
    assert (await client.ok("GET", f"/v1/jobs/{command.job_id}"))["content"] == "another"


async def test_nobody_gets_past_the_door(gateway: Running, client: Client, worker: Worker) -> None:
    """Every call but the open ones, with the ids of things that exist: 401, always the same one."""
    command = (await worker.ask(client)).command
    ids = command.model_dump(include={"thread_id", "job_id", "message_id"})
    ids["file_id"] = new_file_id(command.thread_id)
    document = await document_of(gateway)
    calls = [
        *calls_naming_things(document, ids),
        *(DescribedCall(*call) for call in bare_calls(document)),
    ]
    async with gateway.client(None) as nobody:
        reference = await nobody.get("/v1/threads")
        for call, query in product(calls, ["", f"ticket={'A' * 43}"]):
            response = await ask(nobody, call, ids, query, {})
            assert response.status_code == 401, call
            assert response.content == reference.content, call


def bare_calls(document: Any) -> list[tuple[str, str]]:
    """Method and path of what names nothing in its path."""
    return [
        (method, path)
        for path, item in document["paths"].items()
        for method in item
        if "{" not in path and path not in OPEN
    ]


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
