"""How soon the model is let go when somebody cancels: from asking until its connection is lost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import uvloop

from tests.bench.figures import quantile, short
from tests.bench.report import Chart, Table, Target
from tests.bench.rig import Rig
from tests.bench.sizes import Sizes, Speech
from tests.support.gateway_client import GatewayClient

CANCEL_AT_SEQ = 2
LOOK_SECONDS = 0.001
MILLISECONDS = 1000


@dataclass(frozen=True)
class Cancelling:
    runs: int
    p50_ms: float
    max_ms: float

    def tables(self) -> list[Table]:
        row = (str(self.runs), short(self.p50_ms), short(self.max_ms))
        head = ("jobs", "p50, ms", "slowest, ms")
        return [Table("Cancel, until the model is let go", head, [row])]

    def charts(self) -> list[Chart]:
        return []

    def targets(self) -> list[Target]:
        return []


def cancelling(rig: Rig, sizes: Sizes) -> Cancelling:
    took = uvloop.run(_measure(rig, sizes.running, sizes.cancel_runs))
    return Cancelling(len(took), quantile(took, 0.5), max(took))


async def _measure(rig: Rig, speech: Speech, runs: int) -> list[float]:
    async with GatewayClient(rig.cluster.url, rig.token(0)) as client:
        return [await _cancel(rig, client, speech) for _ in range(runs)]


async def _cancel(rig: Rig, client: GatewayClient, speech: Speech) -> float:
    """Milliseconds."""
    job = await client.ask("measure", agent=speech.agent)
    async for event in client.events(job["job_id"]):
        if event["seq"] == CANCEL_AT_SEQ:
            break
    aborted = (await _statistics(rig, client))["aborted"]
    asked = time.monotonic()
    await client.call("POST", f"/v1/jobs/{job['job_id']}/cancel")
    while (await _statistics(rig, client))["aborted"] == aborted:  # noqa: ASYNC110 -- a remote fact
        await asyncio.sleep(LOOK_SECONDS)
    took = (time.monotonic() - asked) * MILLISECONDS
    await client.follow(job["job_id"])
    return took


async def _statistics(rig: Rig, client: GatewayClient) -> dict[str, Any]:
    async with client.session.get(rig.model.url.removesuffix("/v1") + "/stats") as response:
        return await response.json()
