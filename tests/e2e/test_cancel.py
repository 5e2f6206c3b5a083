"""Cancel: the model is let go at once, what it said is kept, and there is one end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import psycopg
import pytest

from tests.e2e.archive import answer_of, archived_events, until
from tests.support.gateway_client import GatewayClient
from tests.support.oracle import violations

pytestmark = pytest.mark.e2e

ABORT_SECONDS_MAX = 2.0  # far above what is measured: machines are busy


async def _stats(model_url: str) -> dict[str, Any]:
    address = model_url.removesuffix("/v1") + "/stats"
    async with aiohttp.ClientSession() as session, session.get(address) as response:
        return await response.json()


async def test_cancel_while_streaming_closes_the_model_and_keeps_the_text(
    client: GatewayClient, model_url: str, postgres: psycopg.Connection
) -> None:
    job = await client.ask("long", agent="slow")
    before = (await _stats(model_url))["aborted"]
    following = asyncio.create_task(client.follow(job["job_id"]))
    async for event in client.events(job["job_id"]):
        if event["seq"] == 10:
            break
    asked = time.monotonic()
    status, body = await client.call("POST", f"/v1/jobs/{job['job_id']}/cancel")
    assert (status, body["job_id"]) == (200, job["job_id"])
    while (await _stats(model_url))["aborted"] == before:
        assert time.monotonic() - asked < ABORT_SECONDS_MAX, "the model's connection stays open"
        await asyncio.sleep(0.01)
    seen = await following
    done = seen.events[-1]
    assert done["status"] == "cancelled"
    assert done["content"].startswith("t1 t2 ")
    assert "t150 " not in done["content"]
    archived = await archived_events(postgres, job["job_id"])
    view = await client.get(f"/v1/jobs/{job['job_id']}")
    message = answer_of(postgres, job["job_id"])
    assert violations(seen.events, job=view, message=message, archived=archived) == []
    again = await client.call("POST", f"/v1/jobs/{job['job_id']}/cancel")
    assert again == (200, {"job_id": job["job_id"], "status": "cancelled"})


async def test_cancel_before_the_first_token(client: GatewayClient) -> None:
    job = await client.ask("are you there?", agent="silent")
    async for event in client.events(job["job_id"]):
        assert event["type"] == "started"
        break
    await client.call("POST", f"/v1/jobs/{job['job_id']}/cancel")
    seen = await client.follow(job["job_id"])
    assert [event["type"] for event in seen.events] == ["started", "done"]
    assert (seen.events[-1]["status"], seen.events[-1]["content"]) == ("cancelled", "")


async def test_cancel_while_waiting_in_the_thread(client: GatewayClient) -> None:
    running = await client.ask("long", agent="slow")
    waiting = await client.ask("next", agent="quick", thread_id=running["thread_id"])
    _, body = await client.call("POST", f"/v1/jobs/{waiting['job_id']}/cancel")
    assert body["status"] == "cancelled"
    assert len((await client.follow(waiting["job_id"])).events) == 1
    await client.call("POST", f"/v1/jobs/{running['job_id']}/cancel")
    await client.follow(running["job_id"])


async def test_a_disconnect_is_no_cancel(
    client: GatewayClient, postgres: psycopg.Connection
) -> None:
    job = await client.ask("go on without me", agent="steady")
    async for event in client.events(job["job_id"]):
        if event["type"] == "token":
            break
    events = await archived_events(postgres, job["job_id"])
    assert events[-1]["status"] == "done"
    await until(lambda: answer_of(postgres, job["job_id"]), "the message")
