"""/v1/threads/{id}/messages: one transcript, whether Redis or Postgres holds its parts."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from shared.retention import Retention
from shared.settings import Settings
from tests.integration.api.gateways import TTL_SECONDS, Client
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.worker import Worker

Item = dict[str, Any]


async def thread(client: Client) -> str:
    return (await client.ok("POST", "/v1/threads", json={}))["thread_id"]


async def exchange(client: Client, worker: Worker, thread_id: str, text: str) -> None:
    attempt = await worker.ask(client, text, thread_id=thread_id)
    await attempt.say(f"{text}!")
    await attempt.end()


async def read_all(client: Client, thread_id: str, *, limit: int, direction: str) -> list[Item]:
    """All pages, from the newest back or from the first on; in order."""
    path = f"/v1/threads/{thread_id}/messages?limit={limit}"
    if direction == "after":
        cursor: str | None = "2020-01-01T00:00:00Z"
    else:
        cursor = None
    found: list[Item] = []
    while True:
        page = await client.ok("GET", f"{path}&{direction}={cursor}" if cursor else path)
        items = page["items"]
        assert len(items) <= limit
        found = found + items if direction == "after" else items + found
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def check(client: Client, thread_id: str, texts: list[str]) -> None:
    """Every way to read the thread gives the same messages."""
    whole = await client.ok("GET", f"/v1/threads/{thread_id}/messages?limit=200")
    items = whole["items"]
    assert [item["content"] for item in items] == texts
    assert (whole["total"], whole["next_cursor"]) == (len(texts), None)
    assert [item["role"] for item in items] == ["user", "assistant"] * (len(texts) // 2)
    for limit in (1, 3, len(texts), len(texts) + 1):
        for direction in ("before", "after"):
            assert await read_all(client, thread_id, limit=limit, direction=direction) == items
    for place, item in enumerate(items):
        await check_place(client, thread_id, items, item["message_id"], place, place + 1)
        same_time = [n for n, i in enumerate(items) if i["created_at"] <= item["created_at"]]
        behind = same_time[-1] + 1
        await check_place(client, thread_id, items, item["created_at"], behind, behind)


async def check_place(
    client: Client, thread_id: str, items: list[Item], place: str, end: int, start: int
) -> None:
    """``before`` a place stand the items up to ``end``, after it those from ``start`` on."""
    path = f"/v1/threads/{thread_id}/messages?limit=4"
    page = await client.ok("GET", f"{path}&before={quote(place)}")
    assert page["items"] == items[:end][-4:]
    assert page["total"] == len(items)
    page = await client.ok("GET", f"{path}&after={quote(place)}")
    assert page["items"] == items[start : start + 4]


@pytest.mark.parametrize("archived", [0, 1, 3, 5])
async def test_pages_over_both_stores(
    client: Client, worker: Worker, settings: Settings, archived: int
) -> None:
    thread_id = await thread(client)
    for number in range(5):
        if number == archived:
            await archive_all(settings, worker.redis)
        await exchange(client, worker, thread_id, f"{number}")
    if archived == 5:
        await archive_all(settings, worker.redis)
    texts = [text for number in range(5) for text in (f"{number}", f"{number}!")]
    await check(client, thread_id, texts)


async def test_pages_after_redis_let_the_thread_go(
    client: Client, worker: Worker, settings: Settings
) -> None:
    thread_id = await thread(client)
    for text in "ab":
        await exchange(client, worker, thread_id, text)
    await archive_all(settings, worker.redis)
    before = await client.ok("GET", f"/v1/threads/{thread_id}/messages")
    await let_go(worker, thread_id)
    assert await client.ok("GET", f"/v1/threads/{thread_id}/messages") == before
    await check(client, thread_id, ["a", "a!", "b", "b!"])
    await exchange(client, worker, thread_id, "c")
    await check(client, thread_id, ["a", "a!", "b", "b!", "c", "c!"])


async def test_a_message_is_the_same_in_both_stores(
    client: Client, worker: Worker, settings: Settings, user: str
) -> None:
    thread_id = await thread(client)
    attempt = await worker.ask(client, "q", thread_id=thread_id, agent="brief", metadata={"a": [1]})
    await attempt.say("a")
    await attempt.end()
    path = f"/v1/threads/{thread_id}/messages"
    hot = (await client.ok("GET", path))["items"]
    await archive_all(settings, worker.redis)
    cold = (await client.ok("GET", path))["items"]
    assert [item | {"state": None} for item in hot] == [item | {"state": None} for item in cold]
    question, answer = cold
    assert question == {
        "message_id": attempt.command.message_id,
        "thread_id": thread_id,
        "job_id": attempt.lease.job_id,
        "role": "user",
        "author": user,
        "content": "q",
        "metadata": {"a": [1]},
        "status": None,
        "state": "SENT",
        "finish_reason": None,
        "usage": None,
        "replaces": None,
        "attachments": [],
        "position": 2,
        "created_at": question["created_at"],
    }
    assert (answer["message_id"], answer["author"]) == (attempt.command.reply_id, "brief")
    assert (answer["status"], answer["finish_reason"], answer["position"]) == ("done", "stop", 5)


async def test_an_answer_has_its_author_though_its_question_is_archived(
    client: Client, worker: Worker, settings: Settings
) -> None:
    attempt = await worker.ask(client, agent="brief")
    await archive_all(settings, worker.redis)
    await attempt.end()
    path = f"/v1/threads/{attempt.lease.thread_id}/messages"
    items = (await client.ok("GET", path))["items"]
    assert [item["author"] for item in items][1:] == ["brief"]


async def test_what_nobody_began_is_no_message(client: Client) -> None:
    accepted = await client.ok("POST", "/v1/jobs", json={"query": "never mind"})
    await client.ok("POST", f"/v1/jobs/{accepted['job_id']}/cancel")
    page = await client.ok("GET", f"/v1/threads/{accepted['thread_id']}/messages")
    assert [item["role"] for item in page["items"]] == ["user"]
    assert page["total"] == 1


async def test_states_follow_the_persister(
    client: Client, worker: Worker, settings: Settings
) -> None:
    thread_id = await thread(client)
    await exchange(client, worker, thread_id, "a")
    partition = worker.keys(thread_id).partition
    retention = Retention(worker.redis, idle_ttl_seconds=TTL_SECONDS)

    async def states() -> tuple[str, list[str]]:
        page = await client.ok("GET", f"/v1/threads/{thread_id}/messages")
        seen = await client.ok("GET", f"/v1/threads/{thread_id}")
        return seen["state"], [item["state"] for item in page["items"]]

    assert await states() == ("PENDING", ["PENDING", "PENDING"])
    await retention.report(partition, "processing", {thread_id: 2})
    assert await states() == ("PROCESSING", ["PROCESSING", "PENDING"])
    await archive_all(settings, worker.redis)
    assert await states() == ("ACTIVE", ["SENT", "SENT"])
    await exchange(client, worker, thread_id, "b")
    assert (await states())[1] == ["SENT", "SENT", "PENDING", "PENDING"]
    await archive_all(settings, worker.redis)
    await let_go(worker, thread_id)
    assert await states() == ("ACTIVE", ["SENT"] * 4)
