"""/v1/jobs"""

from __future__ import annotations

from tests.integration.api.gateways import Client
from tests.integration.api.sse_client import as_seen, seen
from tests.integration.api.worker import Worker


async def test_a_job_from_question_to_answer(client: Client, worker: Worker) -> None:
    accepted = await client.ok("POST", "/v1/jobs", json={"query": "hi"})
    path = f"/v1/jobs/{accepted['job_id']}"
    assert (await client.ok("GET", path))["status"] == "queued"
    async with client.stream_events(f"{path}/events") as stream:
        await worker.answer(accepted["job_id"])
        frames = await stream.rest()
    assert [frame.event for frame in frames] == ["started", "token", "token", "done"]
    records = await worker.records(accepted["thread_id"])
    mine = [record for record in records if record.stream == accepted["job_id"]]
    assert seen(frames) == as_seen(mine, by_seq=True)
    assert (await client.ok("GET", path))["content"] == "Hello"
