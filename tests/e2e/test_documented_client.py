"""The client that docs/protocol.md prints, while the gateway it talks to is killed."""

from __future__ import annotations

import asyncio

import pytest

from infra.local.cluster import LocalCluster
from tests.integration.documents.test_documented_clients import python_client
from tests.support.gateway_client import GatewayClient

pytestmark = [pytest.mark.e2e, pytest.mark.faults]

FOLLOW_SECONDS_MAX = 60.0
KILL_AT_SEQ = 5


async def test_documented_client_survives_its_gateway(
    cluster: LocalCluster, client: GatewayClient
) -> None:
    job_id = (await client.ask("watch me", agent="slow"))["job_id"]
    url, token = f"{cluster.urls[0]}/v1/jobs/{job_id}/events", cluster.token(client.user)
    seen: list[int] = []

    def follow() -> None:
        for event in python_client()(url, token):
            seen.append(event["seq"])
            if event["seq"] == KILL_AT_SEQ:
                cluster.kill("api-1")

    async with asyncio.timeout(FOLLOW_SECONDS_MAX):
        await asyncio.to_thread(follow)
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) > KILL_AT_SEQ
