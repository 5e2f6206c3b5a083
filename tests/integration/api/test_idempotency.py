"""A key makes a request safe to send again: the same answer, and one effect."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.errors import LogUnavailable
from shared.event_log import EventLog
from shared.settings import Settings
from shared.thread_log import ThreadLog
from tests.integration.api.gateways import Client, Running
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.worker import Worker

AT_ONCE = 16
KEY = {"Idempotency-Key": "key 1 ~!"}


async def post(client: Client, kind: str, thread_id: str = "", **more: Any) -> tuple[int, Any]:
    """Status and body; of a problem, its code."""
    path, body = {
        "thread": ("/v1/threads", {"title": "t"}),
        "job": ("/v1/jobs", {"query": "hi"}),
        "message": (f"/v1/threads/{thread_id}/messages", {"content": "hi"}),
    }[kind]
    response = await client.post(path, json=body | more, headers=KEY)
    return response.status_code, response.json().get("code") or response.json()


async def a_thread(client: Client) -> str:
    return (await client.ok("POST", "/v1/threads", json={}))["thread_id"]


@pytest.mark.parametrize("kind", ["thread", "job", "message"])
async def test_the_same_request_gets_the_same_answer(client: Client, kind: str) -> None:
    thread_id = await a_thread(client)
    first = await post(client, kind, thread_id)
    assert first[0] in (201, 202)
    assert await post(client, kind, thread_id) == first


@pytest.mark.parametrize("kind", ["thread", "job", "message"])
async def test_many_at_once_are_one(client: Client, worker: Worker, kind: str) -> None:
    thread_id = await a_thread(client)
    answers = await asyncio.gather(*(post(client, kind, thread_id) for _ in range(AT_ONCE)))
    assert len({repr(answer) for answer in answers}) == 1
    thread_id = answers[0][1]["thread_id"]
    records = await worker.records(thread_id)
    expected = {"thread": ["thread.created"]}
    assert [r.type for r in records] == expected.get(kind, ["thread.created", "message.posted"])


@pytest.mark.parametrize("kind", ["thread", "job", "message"])
async def test_another_body_is_refused(client: Client, kind: str) -> None:
    thread_id = await a_thread(client)
    await post(client, kind, thread_id)
    other = await post(client, kind, thread_id, metadata={"a": 1})
    assert other == (422, "idempotency_mismatch")


async def test_another_route_is_another_request(client: Client) -> None:
    await post(client, "thread")
    assert await post(client, "job") == (422, "idempotency_mismatch")
    thread_id = await a_thread(client)
    await post(client, "message", thread_id)
    refused = await post(client, "job", query="hi", thread_id=thread_id)
    assert refused == (422, "idempotency_mismatch")


async def test_a_key_names_one_thread(client: Client) -> None:
    """Wherever the threads live: not only when they happen to share a partition."""
    answers = [await post(client, "message", await a_thread(client)) for _ in range(6)]
    assert answers[0][0] == 202
    assert answers[1:] == [(422, "idempotency_mismatch")] * 5


@pytest.mark.parametrize("kind", ["thread", "job", "message"])
async def test_a_gateway_that_died_between_claim_and_write(
    client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    thread_id = await a_thread(client)

    async def dies(*_: Any, **__: Any) -> Any:
        raise LogUnavailable("it died")

    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "accept_job", dies)
        patch.setattr(ThreadLog, "create_thread", dies)
        assert await post(client, kind, thread_id) == (503, "log_unavailable")
    first = await post(client, kind, thread_id)
    assert first[0] in (201, 202)
    assert await post(client, kind, thread_id) == first
    records = await worker.records(first[1]["thread_id"])
    assert len(records) == (1 if kind == "thread" else 2)


@pytest.mark.parametrize("kind", ["thread", "job"])
async def test_a_key_belongs_to_its_user(
    gateway: Running, client: Client, user: str, kind: str
) -> None:
    _, mine = await post(client, kind)
    async with gateway.client(f"{user}-2") as other:
        status, theirs = await post(other, kind, metadata={"theirs": True})
        assert status in (201, 202)
        assert theirs["thread_id"] != mine["thread_id"]
        path = f"/v1/threads/{mine['thread_id']}"
        assert await other.problem("GET", path) == (404, "not_found")


@pytest.mark.parametrize("kind", ["thread", "job"])
async def test_users_and_keys_are_not_confused(gateway: Running, kind: str) -> None:
    """The user `a:b` with the key `c` is not the user `a` with the key `b:c`."""
    threads = set[str]()
    for name, key in (("a:b", "c"), ("a", "b:c"), ("a:b:c", "c"), ("1:a", "b")):
        async with gateway.client(f"{kind}:{name}") as client:
            client.headers["Idempotency-Key"] = key
            body = {"query": "hi"} if kind == "job" else {}
            threads.add((await client.ok("POST", f"/v1/{kind}s", json=body))["thread_id"])
    assert len(threads) == 4


@pytest.mark.parametrize("kind", ["thread", "job", "message"])
async def test_a_repeat_after_redis_let_the_thread_go(
    client: Client, worker: Worker, settings: Settings, kind: str
) -> None:
    thread_id = await a_thread(client)
    first = await post(client, kind, thread_id)
    thread_id = first[1]["thread_id"]
    if kind != "thread":
        await worker.answer(first[1]["job_id"])
    await archive_all(settings, worker.redis)
    await let_go(worker, thread_id)
    repeat = await post(client, kind, thread_id)
    assert repeat == first


async def test_a_key_from_long_ago_is_a_new_one(client: Client, worker: Worker) -> None:
    _, first = await post(client, "job")
    for name in [name async for name in worker.redis.scan_iter(match="*:idempotency:*")]:
        await worker.redis.delete(name)
    status, again = await post(client, "job", metadata={"another": "body"})
    assert status == 202
    assert again["thread_id"] != first["thread_id"]


async def test_a_thread_that_was_deleted_is_not_made_again(
    client: Client, worker: Worker, settings: Settings
) -> None:
    first = await post(client, "thread")
    await client.ok("DELETE", f"/v1/threads/{first[1]['thread_id']}")
    await archive_all(settings, worker.redis)
    await let_go(worker, first[1]["thread_id"])
    assert await post(client, "thread") == first
    path = f"/v1/threads/{first[1]['thread_id']}"
    assert await client.problem("GET", path) == (404, "not_found")


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "é".encode("latin-1")])
@pytest.mark.parametrize("kind", ["thread", "job", "message"])
async def test_a_key_out_of_bounds(client: Client, kind: str, key: Any) -> None:
    thread_id = await a_thread(client)
    path = {"thread": "/v1/threads", "job": "/v1/jobs", "message": f"/v1/threads/{thread_id}"}
    suffix = "/messages" if kind == "message" else ""
    body = {"thread": {}, "job": {"query": "hi"}, "message": {"content": "hi"}}[kind]
    header = {"Idempotency-Key": key}
    refused = await client.problem("POST", path[kind] + suffix, json=body, headers=header)
    assert refused == (400, "bad_idempotency_key")


async def test_a_repeat_may_ask_for_the_stream(client: Client, worker: Worker) -> None:
    body = {"query": "hi", "stream": True}
    client.headers.update(KEY)
    seen: list[list[str | None]] = []
    for _ in range(2):
        async with client.stream_events("/v1/jobs", method="POST", json=body) as stream:
            if not seen:
                await worker.answer(stream.response.headers["Location"].rpartition("/")[2])
            seen.append([frame.data for frame in await stream.rest()])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 4
