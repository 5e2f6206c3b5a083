"""A worker dies of SIGKILL while it answers: how long until another goes on.

Two workers share the jobs. One is killed, and kept down; each of its jobs begins again on the other
one, once its lease is over. The clients stay where they are.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import uvloop

from tests.bench.figures import Figure, short
from tests.bench.report import Chart, Table, Target
from tests.bench.rig import Rig, rig
from tests.bench.sizes import Sizes, Speech
from tests.support.gateway_client import GatewayClient

VICTIM = "orchestrator-1"
HEARTBEATS_PER_LEASE = 5
TOKENS_BEFORE = 3  # that each client has seen when the worker dies


@dataclass(frozen=True)
class TakeOver:
    """Seconds from the kill to `started` of the second attempt, as its client saw it."""

    jobs: int
    taken_over: int
    lease_seconds: float
    begun: Figure
    begun_max: float
    first_token: Figure

    def tables(self) -> list[Table]:
        head = ("jobs", "of the killed worker", "begun again, s", "slowest, s", "next token, s")
        row = (
            str(self.jobs), str(self.taken_over), str(self.begun), short(self.begun_max),
            str(self.first_token),
        )  # fmt: skip
        note = f"From the kill, seen by the client, with a lease of {self.lease_seconds:g} s."
        return [Table("Take-over after kill -9", head, [row], note)]

    def charts(self) -> list[Chart]:
        return []

    def targets(self) -> list[Target]:
        return []


def takeover(sizes: Sizes) -> TakeOver:
    lease = sizes.lease_seconds
    env = {
        "HEADWATER_LEASE_SECONDS": str(lease),
        "HEADWATER_HEARTBEAT_SECONDS": str(lease / HEARTBEATS_PER_LEASE),
    }
    with rig([sizes.interrupted], orchestrators=2, env=env) as built:
        return uvloop.run(_measure(built, sizes))


@dataclass
class Interrupted:
    """A job and the client that follows it."""

    client: GatewayClient
    speech: Speech
    running: asyncio.Event = field(default_factory=asyncio.Event)
    begun_again: float | None = None  # CLOCK_MONOTONIC
    spoken_again: float | None = None

    async def follow(self) -> None:
        job = await self.client.ask("measure", agent=self.speech.agent)
        async for event in self.client.events(job["job_id"]):
            if event["seq"] > TOKENS_BEFORE:
                self.running.set()
            if event.get("attempt", 1) > 1:
                self.begun_again = self.begun_again or time.monotonic()
                if event["type"] == "token":
                    self.spoken_again = self.spoken_again or time.monotonic()


async def _measure(built: Rig, sizes: Sizes) -> TakeOver:
    jobs, lease = sizes.interrupted_jobs, sizes.lease_seconds
    async with GatewayClient(built.cluster.url, built.token(0)) as client:
        watched = [Interrupted(client, sizes.interrupted) for _ in range(jobs)]
        following = asyncio.gather(*(one.follow() for one in watched))
        await asyncio.gather(*(one.running.wait() for one in watched))
        killed = time.monotonic()
        await asyncio.to_thread(built.cluster.supervisor.hold, VICTIM)
        await following
    begun = [one.begun_again - killed for one in watched if one.begun_again]
    spoken = [one.spoken_again - killed for one in watched if one.spoken_again]
    assert begun, "the killed worker had none of the jobs"
    return TakeOver(jobs, len(begun), lease, Figure.of(begun), max(begun), Figure.of(spoken))
