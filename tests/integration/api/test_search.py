"""Search: what is found, by whom, in which order, from Redis and from Postgres alike."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from sqlalchemy import text

from services.api import search_query
from shared.postgres import create_engine
from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.api.gateways import Client, Running
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.worker import Worker

WORDS = ["river", "rivers", "Bank", "banks", "한국어를", "한국", "공부", "東京", "café", "the", "a"]
QUERIES = ["river", "riv", "river bank", "한국", "한", "한국 공부", "東", "cafe", "the a", "ban"]
MESSAGES = 24


async def found(client: Client, query: str, **more: Any) -> list[dict[str, Any]]:
    page = await client.ok("GET", "/v1/search/messages", params={"q": query, **more})
    return page["items"]


async def texts(client: Client, query: str, **more: Any) -> list[str]:
    return [
        "".join(p["text"] for p in hit["snippet"]) for hit in await found(client, query, **more)
    ]


async def say(client: Client, worker: Worker, question: str, answer: str, **more: Any) -> Any:
    attempt = await worker.ask(client, question, **more)
    await attempt.say(answer)
    await attempt.end()
    return attempt.command


async def test_a_hit_tells_where_it_stands(
    client: Client, worker: Worker, settings: Settings, user: str
) -> None:
    thread = await client.ok("POST", "/v1/threads", json={"title": "Waters"})
    thread_id = thread["thread_id"]
    command = await say(client, worker, "which river?", "The Rhine, a river.", thread_id=thread_id)
    hits = await found(client, "river")
    assert [hit["message_id"] for hit in hits] == [command.reply_id, command.message_id]
    answer, question = hits
    assert question["author"] == user
    assert (answer["role"], answer["author"], answer["thread_title"]) == (
        "assistant", "default", "Waters",
    )  # fmt: skip
    assert answer["snippet"] == [
        {"text": "The Rhine, a ", "is_match": False},
        {"text": "river", "is_match": True},
        {"text": ".", "is_match": False},
    ]
    await archive_all(settings, worker.redis)
    assert await found(client, "river") == hits
    await let_go(worker, thread_id)
    assert await found(client, "river") == hits


async def test_redis_and_postgres_agree_on_what_fits_and_how_well(
    client: Client, worker: Worker, settings: Settings
) -> None:
    chance = random.Random(7)
    for _ in range(MESSAGES // 2):
        question, answer = (" ".join(chance.choices(WORDS, k=chance.randint(2, 6))) for _ in "qa")
        await say(client, worker, question, answer)
    hot = {query: await found(client, query, limit=50) for query in QUERIES}
    await archive_all(settings, worker.redis)
    archived = {query: await found(client, query, limit=50) for query in QUERIES}
    assert archived == hot
    assert all(hot[query] for query in QUERIES)


async def test_the_best_match_comes_first_and_then_the_newest(
    client: Client, worker: Worker
) -> None:
    said = ["river bank 1", "bank, river", "river banks", "a river bank 2", "river"]
    for question in said:
        await say(client, worker, question, "yes")
    assert await texts(client, "river bank") == [
        "a river bank 2", "river bank 1", "bank, river", "river banks",
    ]  # fmt: skip


@pytest.mark.parametrize("where", ["redis", "both", "archive"])
async def test_pages_go_on_while_messages_arrive(
    client: Client, worker: Worker, settings: Settings, where: str
) -> None:
    said = [f"note {n}" for n in range(7)]
    for n, question in enumerate(said):
        await say(client, worker, question, "yes")
        if where == "both" and n == 3:
            await archive_all(settings, worker.redis)
    if where == "archive":
        await archive_all(settings, worker.redis)
    seen: list[str] = []
    cursor = None
    while True:
        more = {"cursor": cursor} if cursor else {}
        page = await client.ok(
            "GET", "/v1/search/messages", params={"q": "note", "limit": 2, **more}
        )
        seen += ["".join(piece["text"] for piece in hit["snippet"]) for hit in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await say(client, worker, f"note later {len(seen)}", "yes")
        if len(seen) == 4:
            await archive_all(settings, worker.redis)
    assert seen == said[::-1]


async def test_what_is_deleted_is_not_found(
    client: Client, worker: Worker, settings: Settings
) -> None:
    one = await say(client, worker, "secret one", "yes")
    other = await say(client, worker, "secret other", "yes")
    await archive_all(settings, worker.redis)
    assert await texts(client, "secret") == ["secret other", "secret one"]
    await client.ok("DELETE", f"/v1/threads/{one.thread_id}")
    assert await texts(client, "secret") == ["secret other"], "Redis knows it"
    await archive_all(settings, worker.redis)
    await let_go(worker, one.thread_id)
    assert await texts(client, "secret") == ["secret other"], "Postgres knows it"
    engine = create_engine(settings.required("database_url"), application="test")
    async with engine.begin() as connection:
        gone = text("UPDATE messages SET deleted_at = now() WHERE message_id = :id")
        await connection.execute(gone, {"id": other.message_id})
    await engine.dispose()
    assert await texts(client, "secret") == []


@pytest.mark.parametrize("where", ["redis", "archive"])
async def test_others_find_nothing(
    gateway: Running, client: Client, worker: Worker, settings: Settings, where: str
) -> None:
    command = await say(client, worker, "my secret", "your secret")
    if where == "archive":
        await archive_all(settings, worker.redis)
    params = {"q": "secret", "thread_id": command.thread_id}
    nowhere = {"q": "secret", "thread_id": "thr_" + "0" * 32}
    async with gateway.client(f"stranger-{command.job_id}") as stranger:
        assert await found(stranger, "secret") == []
        for wanted in (params, nowhere, {**params, "q": "?"}, {**params, "thread_id": "x"}):
            answer = await stranger.problem("GET", "/v1/search/messages", params=wanted)
            assert answer == (404, "not_found")


@pytest.mark.parametrize("where", ["redis", "archive"])
async def test_one_thread(client: Client, worker: Worker, settings: Settings, where: str) -> None:
    one = await say(client, worker, "apple one", "yes")
    await say(client, worker, "apple other", "yes")
    if where == "archive":
        await archive_all(settings, worker.redis)
    assert await texts(client, "apple", thread_id=one.thread_id) == ["apple one"]


async def test_an_archived_thread_is_found_under_its_newest_title(
    client: Client, worker: Worker, settings: Settings
) -> None:
    command = await say(client, worker, "pear", "yes")
    await archive_all(settings, worker.redis)
    change = {"status": "archived", "title": "Fruit"}
    await client.ok("PATCH", f"/v1/threads/{command.thread_id}", json=change)
    assert [hit["thread_title"] for hit in await found(client, "pear")] == ["Fruit"]


@pytest.mark.parametrize("query", ["?!", "😀", " ", "\u200b", "'", "\\", "&|!():*<->"])
async def test_nothing_is_found_by_punctuation(client: Client, worker: Worker, query: str) -> None:
    await say(client, worker, f"so: {query}", "yes")
    assert await found(client, query) == []


@pytest.mark.parametrize(
    "query", ["a'b", "a\\", "a:*b", "a & !b", "x" * 200, "한" * 200, "a " * 99]
)
async def test_every_text_can_be_asked_for(
    client: Client, worker: Worker, settings: Settings, query: str
) -> None:
    await say(client, worker, query, "yes")
    await archive_all(settings, worker.redis)
    assert len(await found(client, query)) == 1


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, "invalid_request"),
        ({"q": ""}, "invalid_request"),
        ({"q": "x" * 201}, "invalid_request"),
        ({"q": "a\0b"}, "invalid_request"),
        ({"q": "a", "limit": 0}, "invalid_request"),
        ({"q": "a", "limit": 51}, "invalid_request"),
        ({"q": "a", "cursor": "x"}, "bad_cursor"),
        ({"q": "a", "cursor": "MiAyMDI1"}, "bad_cursor"),
    ],
)
async def test_refusals(client: Client, params: dict[str, Any], code: str) -> None:
    assert await client.problem("GET", "/v1/search/messages", params=params) == (400, code)


async def test_a_cursor_of_another_list_is_none_of_its_own(client: Client) -> None:
    for title in "ab":
        await client.ok("POST", "/v1/threads", json={"title": title})
    cursor = (await client.ok("GET", "/v1/threads?limit=1"))["next_cursor"]
    params = {"q": "a", "cursor": cursor}
    assert await client.problem("GET", "/v1/search/messages", params=params) == (400, "bad_cursor")


async def test_a_search_that_takes_too_long_is_given_up(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres is made to wait for a lock, as it would for a disk."""
    monkeypatch.setattr(search_query, "SEARCH_MS_MAX", 50)
    engine = create_engine(settings.required("database_url"), application="test")
    async with engine.begin() as connection:
        await connection.execute(text("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"))
        response = await client.get("/v1/search/messages", params={"q": "river"})
    await engine.dispose()
    assert response.status_code == 503
    assert response.json()["code"] == "search_too_slow"
    assert response.headers["retry-after"]
    assert await found(client, "river") == []


async def test_a_long_answer_does_not_hold_up_the_archive(
    client: Client, worker: Worker, settings: Settings, redis: Redis
) -> None:
    """More terms than a vector holds: its beginning is searched."""
    words = " ".join(f"w{n}" for n in range(120_000))
    await say(client, worker, "long", words)
    await archive_all(settings, worker.redis)
    assert await asyncio.wait_for(texts(client, "long"), 20) == ["long"]
    assert len(await found(client, "w77")) == 1
