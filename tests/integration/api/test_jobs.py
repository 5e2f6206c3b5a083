"""/v1/jobs: what goes in, what comes out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.api.gateways import QUEUE_MAX, Client
from tests.integration.api.sse_client import as_seen, seen
from tests.integration.api.worker import Worker


async def test_a_job_from_question_to_answer(client: Client, worker: Worker) -> None:
    response = await client.post("/v1/jobs", json={"query": "hi"})
    accepted = response.json()
    assert response.status_code == 202
    assert accepted.keys() == {"message_id", "job_id", "thread_id", "trace_id", "status"}
    assert accepted["status"] == "queued"
    path = f"/v1/jobs/{accepted['job_id']}"
    assert response.headers["Location"] == path
    queued = await client.ok("GET", path)
    assert queued == {
        "job_id": accepted["job_id"],
        "thread_id": accepted["thread_id"],
        "trace_id": accepted["trace_id"],
        "status": "queued",
        "attempt": 0,
        "last_seq": 0,
        "content": None,
        "error": None,
        "usage": None,
        "created_at": queued["created_at"],
        "started_at": None,
        "finished_at": None,
    }
    attempt = await worker.begin(accepted["job_id"])
    await attempt.say("Hel", "lo")
    running = await client.ok("GET", path)
    assert (running["status"], running["attempt"], running["last_seq"]) == ("running", 1, 3)
    await attempt.end()
    done = await client.ok("GET", path)
    assert (done["status"], done["content"], done["last_seq"]) == ("done", "Hello", 4)
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]


async def test_a_job_that_fails_says_why(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    path = f"/v1/threads/{attempt.lease.thread_id}"
    await attempt.say("well")
    await client.ok("PATCH", path, json={"title": "stands between the job's events"})
    await attempt.fail("model_unavailable")
    job = await client.ok("GET", f"/v1/jobs/{attempt.lease.job_id}")
    assert (job["status"], job["content"]) == ("failed", "well")
    error = {"code": "model_unavailable", "message": "It is away.", "retryable": True}
    assert job["error"] == error


async def test_the_agent_is_the_questions_then_the_threads_then_the_first(
    client: Client, worker: Worker
) -> None:
    made = await client.ok("POST", "/v1/threads", json={"agent": "brief"})
    for body, agent in (({}, "brief"), ({"agent": "default"}, "default")):
        attempt = await worker.ask(client, thread_id=made["thread_id"], **body)
        assert attempt.command.agent == agent
        await attempt.end()
    attempt = await worker.ask(client)
    assert attempt.command.agent == "default"


async def test_what_was_asked_reaches_the_worker_as_it_was(client: Client, worker: Worker) -> None:
    query = 'a "line"\r\nand\u2028another \U0001f600 data: x\n\nevent: y\n\n\x01'
    metadata = {"k": ["\u2029", 1.5]}
    client.headers["X-Session-Id"] = "phone-1"
    attempt = await worker.ask(client, query, metadata=metadata)
    assert attempt.command.content == query
    assert attempt.command.metadata == metadata
    assert attempt.command.session_id == "phone-1"
    await attempt.say(query, "\r", "\n", "\u2028")
    await attempt.end()
    records = await worker.records(attempt.lease.thread_id)
    async with client.stream_events(f"/v1/jobs/{attempt.lease.job_id}/events") as stream:
        frames = await stream.rest()
    assert seen(frames) == as_seen(records[2:], by_seq=True)
    assert frames[-1].json()["content"] == query + "\r\n\u2028"
    async with client.stream_events(f"/v1/threads/{attempt.lease.thread_id}/events") as stream:
        posted = (await stream.take(2))[1].json()
    assert posted["content"] == query


async def test_pages_of_events(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    await attempt.say(*"abcdef")
    path = f"/v1/jobs/{attempt.lease.job_id}/events?format=json"

    async def page(query: str = "") -> tuple[list[int], str | None]:
        body = await client.ok("GET", path + query)
        return [item["seq"] for item in body["items"]], body["next_cursor"]

    assert await page("&limit=3") == ([1, 2, 3], "3")
    assert await page("&limit=3&after=3") == ([4, 5, 6], "6")
    assert await page("&after=6") == ([7], "7")
    assert await page("&after=7") == ([], "7")  # it goes on
    await attempt.end()
    assert await page("&after=7") == ([8], None)
    assert await page("&after=8") == ([], None)
    header = {"Last-Event-ID": "6"}
    body = await client.ok("GET", f"{path}&after=2", headers=header)
    assert [item["seq"] for item in body["items"]] == [7, 8]


async def test_a_finished_stream_ends_at_once_for_who_has_it_all(
    client: Client, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    await attempt.end()
    async with client.stream_events(f"/v1/jobs/{attempt.lease.job_id}/events", after=2) as stream:
        assert await stream.rest() == []
        assert stream.ended_cleanly


@pytest.mark.parametrize("path", ["/v1/jobs/{job}/events", "/v1/threads/{thread}/events"])
async def test_a_cursor_ahead_of_the_stream(client: Client, worker: Worker, path: str) -> None:
    attempt = await worker.ask(client)
    path = path.format(job=attempt.lease.job_id, thread=attempt.lease.thread_id)
    for header in ({"Last-Event-ID": "4"}, {}):
        ahead = await client.problem("GET", f"{path}?after=4", headers=header)
        assert ahead == (400, "cursor_ahead")


async def test_cancel_while_it_waits(client: Client) -> None:
    accepted = await client.ok("POST", "/v1/jobs", json={"query": "hi"})
    job_id = accepted["job_id"]
    for _ in range(2):
        answer = await client.ok("POST", f"/v1/jobs/{job_id}/cancel")
        assert answer == {"job_id": job_id, "status": "cancelled"}
    job = await client.ok("GET", f"/v1/jobs/{job_id}")
    assert (job["status"], job["attempt"], job["last_seq"]) == ("cancelled", 0, 1)


async def test_cancel_while_it_runs_tells_the_worker(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    path = f"/v1/jobs/{attempt.lease.job_id}/cancel"
    assert (await client.ok("POST", path))["status"] == "running"
    renewed = await worker.hot.job(attempt.lease.job_id)
    assert renewed is not None
    await attempt.say("so far")
    await attempt.end("cancelled")
    assert (await client.ok("POST", path))["status"] == "cancelled"
    assert (await client.ok("GET", path.removesuffix("/cancel")))["content"] == "so far"


async def test_cancel_after_the_end_has_no_effect(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    await attempt.end()
    path = f"/v1/jobs/{attempt.lease.job_id}/cancel"
    assert (await client.ok("POST", path))["status"] == "done"


@pytest.mark.parametrize("kind", ["message", "job"])
async def test_a_busy_thread(client: Client, worker: Worker, kind: str) -> None:
    attempt = await worker.ask(client)
    thread_id = attempt.lease.thread_id
    path, body = "/v1/jobs", {"query": "and?", "thread_id": thread_id}
    if kind == "message":
        path, body = f"/v1/threads/{thread_id}/messages", {"content": "and?"}

    async def post(on_busy: str) -> Any:
        return await client.post(path, json=body | {"on_busy": on_busy})

    refused = await post("reject")
    assert (refused.status_code, refused.json()["code"]) == (409, "thread_busy")
    first = (await post("enqueue")).json()["job_id"]
    next_one = (await post("interrupt")).json()["job_id"]
    for _ in range(QUEUE_MAX - 2):
        assert (await post("enqueue")).status_code == 202
    full = await post("enqueue")
    assert (full.status_code, full.json()["code"]) == (429, "queue_full")
    assert full.headers["Retry-After"] == "1"
    await attempt.end("cancelled")
    await worker.answer(next_one)  # overtakes
    await worker.answer(first)
