"""kill -9 and SIGTERM of every service in the middle of a stream: nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence

import pytest

from infra.local.cluster import LocalCluster
from tests.e2e.archive import answer_of, archived_events, connected
from tests.support.gateway_client import GatewayClient, Seen
from tests.support.oracle import violations

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

JOBS = 6
TIERS = {
    "api": ["api-1", "api-2"],
    "orchestrator": ["orchestrator-1", "orchestrator-2"],
    "persister": ["persister-1", "persister-2"],
    "valkey": ["valkey"],
    "postgres": ["postgres"],
}


async def _checked(
    client: GatewayClient, postgres_url: str, jobs: Sequence[dict[str, str]], viewers: list[Seen]
) -> None:
    with await connected(postgres_url) as postgres:
        for job, seen in zip(jobs, viewers, strict=True):
            archived = await archived_events(postgres, job["job_id"])
            view = await client.get(f"/v1/jobs/{job['job_id']}")
            message = answer_of(postgres, job["job_id"])
            assert violations(seen.events, job=view, message=message, archived=archived) == []


async def _mid_stream(viewers: list[Seen]) -> None:
    deadline = time.monotonic() + 20
    while any(len(seen.events) < 5 for seen in viewers):
        assert time.monotonic() < deadline, "the streams do not start"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM], ids=["KILL", "TERM"])
@pytest.mark.parametrize("tier", TIERS)
async def test_ending_a_process_mid_stream_loses_nothing(
    cluster: LocalCluster, client: GatewayClient, tier: str, sent: signal.Signals
) -> None:
    jobs = [await client.ask(f"question {n}", agent="slow") for n in range(JOBS)]
    viewers = [Seen() for _ in jobs]
    following = [
        asyncio.create_task(client.follow(job["job_id"], seen))
        for job, seen in zip(jobs, viewers, strict=True)
    ]
    await _mid_stream(viewers)
    if tier == "postgres" and sent is signal.SIGTERM:
        sent = signal.SIGINT  # its SIGTERM waits until the last client has left
    cluster.kill(TIERS[tier][0], sent)
    await asyncio.gather(*following)
    await _checked(client, cluster.database_url, jobs, viewers)
    pause = max(seen.longest_pause_seconds for seen in viewers)
    attempts = max(seen.events[-1]["attempt"] for seen in viewers)
    connections = max(seen.connections for seen in viewers)
    print(f"{tier} {sent.name}: pause {pause:.2f} s, {attempts=}, {connections=}")  # noqa: T201
    after = await client.ask("still there?", agent="quick")
    assert (await client.follow(after["job_id"])).events[-1]["status"] == "done"
