"""Every viewer sees every event once, however often it drops, and all stores agree."""

from __future__ import annotations

import asyncio
import random

import psycopg
import pytest

from tests.e2e.archive import answer_of, archived_events
from tests.support.gateway_client import GatewayClient, Seen
from tests.support.oracle import violations

pytestmark = pytest.mark.e2e

JOBS = 20
CUTS = 100
CUT_AFTER_MAX = 3  # so an answer of 180 tokens has room for its cuts, even where many share events


async def _check(
    client: GatewayClient, postgres: psycopg.Connection, job_id: str, *viewers: Seen
) -> None:
    archived = await archived_events(postgres, job_id)
    job = await client.get(f"/v1/jobs/{job_id}")
    message = answer_of(postgres, job_id)
    for seen in viewers:
        assert violations(seen.events, job=job, message=message, archived=archived) == []


async def test_a_hundred_cuts_over_twenty_jobs_lose_and_repeat_nothing(
    client: GatewayClient, other_gateway: GatewayClient, postgres: psycopg.Connection
) -> None:
    cuts = iter(range(CUTS))

    def random_cut(seen: Seen) -> int | None:
        budget = CUTS // JOBS
        if seen.connections > budget:
            return None
        next(cuts)
        return random.randint(1, CUT_AFTER_MAX)

    async def one(number: int) -> None:
        accepted = await client.ask(f"question {number}", agent="lengthy")
        gateway = random.choice([client, other_gateway])
        seen = await gateway.follow(accepted["job_id"], cut_after=random_cut)
        await _check(client, postgres, accepted["job_id"], seen)

    await asyncio.gather(*(one(number) for number in range(JOBS)))
    assert next(cuts, None) is None, "not every cut was made"


async def test_viewers_at_different_places_see_the_same_stream(
    client: GatewayClient, other_gateway: GatewayClient, postgres: psycopg.Connection
) -> None:
    accepted = await client.ask("watch me", agent="slow")
    job_id = accepted["job_id"]
    early = asyncio.create_task(client.follow(job_id))
    half = Seen()
    async for event in client.events(job_id):
        event.pop("id")
        half.events.append(event)
        if event["seq"] == 30:
            break
    late = asyncio.create_task(other_gateway.follow(job_id))
    resumed = asyncio.create_task(other_gateway.follow(job_id, half))
    viewers = await asyncio.gather(early, late, resumed)
    replayed = await client.follow(job_id)
    await _check(client, postgres, job_id, *viewers, replayed)


async def test_every_suffix_is_a_suffix(client: GatewayClient) -> None:
    accepted = await client.ask("short", agent="steady")
    whole = (await client.follow(accepted["job_id"])).events
    for after in range(len(whole)):
        seen = Seen(events=whole[:after])
        assert (await client.follow(accepted["job_id"], seen)).events == whole
    pages: list[dict[str, object]] = []
    cursor = "0"
    while cursor is not None:
        path = f"/v1/jobs/{accepted['job_id']}/events?format=json&after={cursor}&limit=7"
        page = await client.get(path)
        pages += page["items"]
        cursor = page["next_cursor"]
    assert pages == whole


async def test_asking_with_stream_true_answers_with_the_stream(client: GatewayClient) -> None:
    url = f"{client.base_url}/v1/jobs"
    async with client.session.post(
        url, json={"query": "now", "stream": True, "agent": "quick"}
    ) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        location = response.headers["Location"]
        body = (await response.read()).decode()
    assert body.count("event: done") == 1
    assert (await client.get(location))["status"] == "done"
