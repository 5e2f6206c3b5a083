"""Messages that were deleted: gone from what is read, wherever they and their deletion stand."""

from __future__ import annotations

from typing import Any

import pytest

from services.orchestrator.history import ThreadHistory
from shared.archive import Archive
from shared.hot_state import HotState
from shared.postgres import create_engine
from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.api.gateways import PARTITIONS, Client, Running
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.worker import Attempt, Worker


async def answered(worker: Worker, client: Client, question: str, **more: Any) -> Attempt:
    attempt = await worker.ask(client, question, **more)
    await attempt.say(f"to {question}")
    await attempt.end()
    return attempt


async def contents(client: Client, thread_id: str) -> list[str]:
    page = await client.ok("GET", f"/v1/threads/{thread_id}/messages")
    assert page["total"] == len(page["items"])
    return [item["content"] for item in page["items"]]


def place(attempt: Attempt, message_id: str) -> str:
    return f"/v1/threads/{attempt.lease.thread_id}/messages/{message_id}"


async def turns(
    settings: Settings, redis: Redis, thread_id: str, *, before: int = 10_000
) -> list[tuple[str, str | None]]:
    """What the model is shown, asked for once more by a worker."""
    engine = create_engine(settings.required("database_url"), application="worker")
    try:
        history = ThreadHistory(HotState(redis, PARTITIONS), Archive(engine))
        found = (await history.before(thread_id, before)).turns
    finally:
        await engine.dispose()
    return [(turn.question, turn.answer) for turn in found]


@pytest.mark.parametrize("which", ["message_id", "reply_id"])
@pytest.mark.parametrize("archived", ["nothing", "message", "all"])
async def test_a_deleted_message_is_gone(
    client: Client, worker: Worker, settings: Settings, redis: Redis, archived: str, which: str
) -> None:
    one = await answered(worker, client, "one")
    thread_id = one.lease.thread_id
    two = await answered(worker, client, "two", thread_id=thread_id)
    path = place(one, getattr(one.command, which))
    assert (await client.ok("GET", path))["content"] in ("one", "to one")
    if archived == "message":
        await archive_all(settings, redis)
    assert (await client.ok("DELETE", path))["state"] == "DELETING"
    if archived == "all":
        await archive_all(settings, redis)
        await let_go(worker, thread_id)
    state = "DELETED" if archived == "all" else "DELETING"
    assert (await client.ok("DELETE", path))["state"] == state
    assert await client.problem("GET", path) == (404, "not_found")
    rest = ["to one"] if which == "message_id" else ["one"]
    assert await contents(client, thread_id) == [*rest, "two", "to two"]
    assert await turns(settings, redis, thread_id) == [("two", "to two")]
    unread = (await client.ok("GET", f"/v1/threads/{thread_id}"))["unread_count"]
    assert unread == (2 if which == "message_id" else 1)
    edge = await client.ok(
        "GET", f"/v1/threads/{thread_id}/messages?after={getattr(one.command, which)}"
    )
    assert [item["content"] for item in edge["items"]][-2:] == ["two", "to two"]
    assert (await client.ok("GET", place(two, two.command.reply_id)))["content"] == "to two"


@pytest.mark.parametrize("which", ["message_id", "reply_id"])
@pytest.mark.parametrize("archives", [False, True])
async def test_one_that_is_being_generated_is_cancelled_first(
    client: Client, worker: Worker, settings: Settings, redis: Redis, which: str, archives: bool
) -> None:
    attempt = await worker.ask(client, "question")
    await attempt.say("par")
    thread_id, job_id = attempt.lease.thread_id, attempt.lease.job_id
    view = await client.ok("DELETE", place(attempt, getattr(attempt.command, which)))
    assert view["state"] == "DELETING"
    flag = await redis.hget(worker.keys(thread_id).job(job_id), "cancel")  # type: ignore[misc]
    assert flag == b"1"
    if archives:
        await archive_all(settings, redis)  # the deletion, before the end
    await attempt.end("cancelled")
    rest = ["par"] if which == "message_id" else ["question"]
    for _ in range(2):
        assert await contents(client, thread_id) == rest
        assert await turns(settings, redis, thread_id) == []
        unread = (await client.ok("GET", f"/v1/threads/{thread_id}"))["unread_count"]
        assert unread == (which == "message_id")
        await archive_all(settings, redis)


async def test_a_question_that_waits_is_not_asked(client: Client, worker: Worker) -> None:
    first = await worker.ask(client, "one")
    path = f"/v1/threads/{first.lease.thread_id}/messages"
    waiting = await client.ok("POST", path, json={"content": "two"})
    await client.ok("DELETE", f"{path}/{waiting['message_id']}")
    job = await client.ok("GET", f"/v1/jobs/{waiting['job_id']}")
    assert job["status"] == "cancelled"
    assert await contents(client, first.lease.thread_id) == ["one"]
    types = [record.type for record in await worker.records(first.lease.thread_id)]
    assert types[-2:] == ["done", "message.deleted"]


async def test_who_may(gateway: Running, client: Client, worker: Worker, user: str) -> None:
    guest = f"{user}-guest"
    mine = await answered(worker, client, "mine")
    thread_id = mine.lease.thread_id
    await client.ok("PUT", f"/v1/threads/{thread_id}/participants/{guest}")
    async with gateway.client(guest) as other:
        theirs = await answered(worker, other, "theirs", thread_id=thread_id)
        for message_id in (mine.command.message_id, mine.command.reply_id):
            refused = await other.problem("DELETE", place(mine, message_id))
            assert refused == (403, "not_the_owner")
        await other.ok("DELETE", place(theirs, theirs.command.message_id))
        await client.ok("DELETE", place(theirs, theirs.command.reply_id))
        assert await contents(other, thread_id) == ["mine", "to mine"]


async def test_deleting_does_not_move_a_thread_to_the_front(client: Client, worker: Worker) -> None:
    old, new = await answered(worker, client, "old"), await answered(worker, client, "new")
    await client.ok("DELETE", place(old, old.command.message_id))
    page = await client.ok("GET", "/v1/threads")
    found = [item["thread_id"] for item in page["items"]]
    assert found == [new.lease.thread_id, old.lease.thread_id]
