"""What waiting costs in memory: a client that follows a silent thread, and a job that runs.

Memory is a process's own (USS), and what Valkey says it uses, each after a pause.
The clients are connections of this process, which is not measured.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import psutil
import uvloop

from shared.redis_client import connect
from tests.bench.connections import PER_THREAD, WARM_CLIENTS, Clients
from tests.bench.figures import short
from tests.bench.report import Chart, Table, Target
from tests.bench.rig import Rig
from tests.bench.sizes import Sizes
from tests.support.gateway_client import GatewayClient

KIB = 1024
SERVICES = ("api-1", "orchestrator-1", "persister-1")
VALKEY = "valkey"

Memory = dict[str, float]  # KiB


@dataclass(frozen=True)
class Waiting:
    """KiB of each part for one of ``count``."""

    what: str
    count: int
    each: Memory


@dataclass(frozen=True)
class MemoryUse:
    idle_mib: Memory  # of each part before
    clients: Waiting
    jobs: Waiting

    def tables(self) -> list[Table]:
        parts = (*SERVICES, VALKEY)
        rows = [["nothing, MiB", "", *(short(self.idle_mib[name]) for name in parts)]]
        for waiting in (self.clients, self.jobs):
            each = [short(waiting.each[name]) for name in parts]
            rows.append([f"{waiting.what}, KiB each", str(waiting.count), *each])
        note = f"{PER_THREAD} clients to a thread."
        return [Table("Memory", ("", "open", *parts), rows, note)]

    def charts(self) -> list[Chart]:
        return []

    def targets(self) -> list[Target]:
        each = self.clients.each["api-1"]
        return [Target.at_most("idle SSE client, on the gateway", each, 20, "KiB")]


def memory(rig: Rig, sizes: Sizes) -> MemoryUse:
    return uvloop.run(_measure(rig, sizes))


async def _measure(rig: Rig, sizes: Sizes) -> MemoryUse:
    headers = {"Authorization": f"Bearer {rig.token(0)}"}
    timeout, connector = aiohttp.ClientTimeout(total=None), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        headers=headers, connector=connector, timeout=timeout
    ) as session:
        clients = Clients(session, rig.cluster.url)
        async with AsyncExitStack() as warm:
            await clients.open(warm, WARM_CLIENTS, clients.stream)
        await clients.threads(max(1, sizes.idle_clients // PER_THREAD))
        before = await _memory(rig, sizes.settle_seconds)
        async with AsyncExitStack() as stack:
            await clients.open(stack, sizes.idle_clients, clients.stream)
            open_ = await _memory(rig, sizes.settle_seconds)
    jobs = await _jobs(rig, sizes)
    return MemoryUse(
        {name: kib / KIB for name, kib in before.items()},
        Waiting("idle SSE client", sizes.idle_clients, _each(before, open_, sizes.idle_clients)),
        Waiting("running job", sizes.running_jobs, jobs),
    )


async def _jobs(rig: Rig, sizes: Sizes) -> Memory:
    count = sizes.running_jobs
    before = await _memory(rig, sizes.settle_seconds)
    running: list[str] = []
    async with GatewayClient(rig.cluster.url, rig.token(0)) as client:
        for _ in range(count):
            running.append((await client.ask("measure", agent=sizes.running.agent))["job_id"])
        async for event in client.events(running[-1]):
            if event["type"] == "token":
                break
        during = await _memory(rig, sizes.settle_seconds)
        for job_id in running:
            await client.call("POST", f"/v1/jobs/{job_id}/cancel")
    await rig.settled()
    return _each(before, during, count)


def _each(before: Memory, after: Memory, count: int) -> Memory:
    return {name: (after[name] - before[name]) / count for name in after}


async def _memory(rig: Rig, settle_seconds: float) -> Memory:
    await asyncio.sleep(settle_seconds)
    used = {
        name: psutil.Process(rig.cluster.pid(name)).memory_full_info().uss / KIB
        for name in SERVICES
    }
    redis: Any
    async with connect(rig.cluster.redis_url) as redis:
        used[VALKEY] = (await redis.info("memory"))["used_memory"] / KIB
    return used
