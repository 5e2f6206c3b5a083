"""Edit and resend, and ask again: a new message and job in the place of an earlier question."""

from __future__ import annotations

from typing import Any

import pytest

from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.api.gateways import Client
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.test_deletion import answered, turns
from tests.integration.api.worker import Attempt, Worker


async def replace(client: Client, worker: Worker, old: Attempt, **body: Any) -> Attempt:
    path = f"/v1/threads/{old.lease.thread_id}/messages"
    accepted = await client.ok("POST", path, json=body)
    return await worker.begin(accepted["job_id"])


async def shown(settings: Settings, redis: Redis, attempt: Attempt) -> list[str]:
    """The questions the model sees before this one."""
    found = await turns(settings, redis, attempt.lease.thread_id, before=attempt.lease.first)
    return [question for question, _ in found]


@pytest.mark.parametrize("which", ["message_id", "reply_id"])
@pytest.mark.parametrize("archived", ["nothing", "all", "let go"])
async def test_an_edit_takes_the_place_of_all_behind_it(
    client: Client, worker: Worker, settings: Settings, redis: Redis, archived: str, which: str
) -> None:
    one = await answered(worker, client, "one")
    thread_id = one.lease.thread_id
    two = await answered(worker, client, "two", thread_id=thread_id)
    await answered(worker, client, "three", thread_id=thread_id)
    if archived != "nothing":
        await archive_all(settings, redis)
    if archived == "let go":
        await let_go(worker, thread_id)
    old = getattr(two.command, which)
    edited = await replace(client, worker, two, content="zwei", replaces=old)
    assert await shown(settings, redis, edited) == ["one"]
    await edited.end()
    four = await answered(worker, client, "four", thread_id=thread_id)
    assert await shown(settings, redis, four) == ["one", "zwei"]
    await archive_all(settings, redis)
    assert await shown(settings, redis, four) == ["one", "zwei"]
    page = await client.ok("GET", f"/v1/threads/{thread_id}/messages")
    found = {item["content"]: item["replaces"] for item in page["items"]}
    assert found["zwei"] == two.command.message_id
    assert (found["two"], found["four"]) == (None, None)


async def test_asked_again_it_is_the_same_question(
    client: Client, worker: Worker, settings: Settings, redis: Redis
) -> None:
    one = await answered(worker, client, "one")
    two = await answered(
        worker, client, "two", thread_id=one.lease.thread_id, metadata={"colour": "blau"}
    )
    again = await replace(client, worker, two, replaces=two.command.reply_id)
    assert again.lease.job_id != two.lease.job_id
    assert (again.command.content, again.command.metadata) == ("two", {"colour": "blau"})
    assert await shown(settings, redis, again) == ["one"]
    await again.end()
    third = await replace(client, worker, again, replaces=again.command.message_id)
    assert await shown(settings, redis, third) == ["one"], "the first answer does not come back"
    await third.end()


async def test_a_replacement_that_is_deleted_replaces_nothing(
    client: Client, worker: Worker, settings: Settings, redis: Redis
) -> None:
    one = await answered(worker, client, "one")
    edited = await replace(client, worker, one, content="eins", replaces=one.command.message_id)
    await edited.end()
    path = f"/v1/threads/{one.lease.thread_id}/messages/{edited.command.message_id}"
    await client.ok("DELETE", path)
    for _ in range(2):
        two = await worker.ask(client, "two", thread_id=one.lease.thread_id)
        assert await shown(settings, redis, two) == ["one"]
        await client.ok("DELETE", f"{path.rpartition('/')[0]}/{two.command.message_id}")
        await two.end()
        await archive_all(settings, redis)


async def test_what_cannot_be_replaced(client: Client, worker: Worker) -> None:
    one, other = await answered(worker, client, "one"), await answered(worker, client, "other")
    path = f"/v1/threads/{one.lease.thread_id}/messages"
    for old in (other.command.message_id, "msg_x", one.lease.job_id):
        body = {"content": "x", "replaces": old}
        assert await client.problem("POST", path, json=body) == (404, "not_found")
    await client.ok("DELETE", f"{path}/{one.command.message_id}")
    body = {"replaces": one.command.reply_id}
    assert await client.problem("POST", path, json=body) == (404, "not_found")
    assert await client.problem("POST", path, json={}) == (400, "invalid_request")
