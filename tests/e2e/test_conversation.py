"""What a person at a chat product does."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import psycopg
import pytest

from tests.e2e.archive import WAIT_SECONDS_MAX, archived_events
from tests.support.gateway_client import GatewayClient

pytestmark = pytest.mark.e2e


async def test_the_second_question_is_answered_in_the_context_of_the_first(
    client: GatewayClient,
) -> None:
    first = await client.ask("My name is Noor.", agent="echo")
    await client.follow(first["job_id"])
    second = await client.ask("What is my name?", agent="echo", thread_id=first["thread_id"])
    seen = await client.follow(second["job_id"])
    assert "My name is Noor." in seen.text
    assert "What is my name?" in seen.text
    page = await client.get(f"/v1/threads/{first['thread_id']}/messages")
    assert [m["role"] for m in page["items"]] == ["user", "assistant"] * 2
    assert page["total"] == 4


async def test_messages_of_one_thread_are_answered_one_after_the_other(
    client: GatewayClient,
) -> None:
    first = await client.ask("one", agent="steady")
    thread_id = first["thread_id"]
    others = [await client.ask(text, agent="steady", thread_id=thread_id) for text in "abc"]
    jobs = [first, *others]
    for job in jobs:
        await client.follow(job["job_id"])
    views = [await client.get(f"/v1/jobs/{job['job_id']}") for job in jobs]
    for earlier, later in pairwise(views):
        assert earlier["finished_at"] <= later["started_at"]


async def test_interrupt_cancels_the_running_answer_and_goes_first(client: GatewayClient) -> None:
    running = await client.ask("long", agent="slow")
    async for event in client.events(running["job_id"]):
        if event["type"] == "token":
            break
    urgent = await client.ask(
        "urgent", agent="quick", thread_id=running["thread_id"], on_busy="interrupt"
    )
    assert (await client.follow(urgent["job_id"])).events[-1]["status"] == "done"
    assert (await client.get(f"/v1/jobs/{running['job_id']}"))["status"] == "cancelled"


async def test_reject_says_that_the_thread_is_busy(client: GatewayClient) -> None:
    running = await client.ask("long", agent="slow")
    body = {"content": "me too", "on_busy": "reject"}
    path = f"/v1/threads/{running['thread_id']}/messages"
    status, problem = await client.call("POST", path, body)
    assert (status, problem["code"]) == (409, "thread_busy")
    await client.call("POST", f"/v1/jobs/{running['job_id']}/cancel")
    await client.follow(running["job_id"])


async def test_what_was_done_is_seen_at_once_on_any_gateway(
    client: GatewayClient, other_gateway: GatewayClient
) -> None:
    for number in range(10):
        _, thread = await client.call("POST", "/v1/threads", {"title": f"t{number}"})
        path = f"/v1/threads/{thread['thread_id']}"
        listed = (await other_gateway.get("/v1/threads?limit=100"))["items"]
        assert thread["thread_id"] in [item["thread_id"] for item in listed]
        await other_gateway.call("PATCH", path, {"title": "renamed"})
        assert (await client.get(path))["title"] == "renamed"
        await client.call("DELETE", path)
        assert (await other_gateway.call("GET", path))[0] == 404
        listed = (await client.get("/v1/threads?limit=100"))["items"]
        assert thread["thread_id"] not in [item["thread_id"] for item in listed]


async def test_states_reach_active_and_sent(
    client: GatewayClient, postgres: psycopg.Connection
) -> None:
    job = await client.ask("hello", agent="quick")
    await client.follow(job["job_id"])
    await archived_events(postgres, job["job_id"])
    path = f"/v1/threads/{job['thread_id']}"
    states: set[str] = set()
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while states != {"ACTIVE", "SENT"}:
            messages = (await client.get(f"{path}/messages"))["items"]
            states = {(await client.get(path))["state"], *(m["state"] for m in messages)}


async def test_deleting_a_thread_cancels_its_answer(client: GatewayClient) -> None:
    job = await client.ask("long", agent="slow")
    async for event in client.events(job["job_id"]):
        if event["type"] == "token":
            break
    assert (await client.call("DELETE", f"/v1/threads/{job['thread_id']}"))[0] == 204
    assert (await client.call("GET", f"/v1/threads/{job['thread_id']}"))[0] == 404
    seen = await client.follow(job["job_id"])
    assert seen.events[-1]["status"] == "cancelled"
