"""What is measured, and what it is measured with: a cluster, its floor, and the model of both.

    client (this process) ──▶ gateway ─ Valkey ─ orchestrator ──▶ model
                     └──────▶ floor ──────────────────────────▶ ──┘

Limits are as they are set by default; the load is spread over USERS so that nobody meets one. Only
the jobs of a worker are more than by default, or nothing would be streamed 256 times at once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, cast

from infra.local.cluster import LocalCluster
from infra.local.part import PartState
from infra.local.plan import Plan
from shared.keys import PERSISTERS, PartitionKeys
from shared.redis_client import connect
from tests.bench.sizes import Speech
from tests.bench.streams import Request
from tests.support.model_process import Spawned, spawned

USERS = 64
JOBS_PER_WORKER = 1024
PARTITIONS = 8
PARTS = ("api-1", "orchestrator-1", "persister-1", "valkey", "postgres")
SETTLE_SECONDS_MAX = 120.0
SETTLE_STEP_SECONDS = 0.02
READY_SECONDS_MAX = 120.0

NOTHING: Mapping[str, str] = MappingProxyType({})

Ask = Callable[[Speech, int], Request]


@dataclass(frozen=True)
class Rig:
    cluster: LocalCluster
    model: Spawned
    floor: Spawned
    started_seconds: float  # from nothing to all ready
    tokens: Mapping[int, str] = field(default_factory=dict[int, str])

    def ask(self, speech: Speech, number: int) -> Request:
        """Of Headwater: the answer of a new thread, streamed."""
        body = json.dumps({"query": "measure", "agent": speech.agent, "stream": True}).encode()
        url = f"{self.cluster.url}/v1/jobs"
        return Request.of("POST", url, token=self.token(number), body=body)

    def ask_floor(self, speech: Speech, _number: int) -> Request:
        body = json.dumps({"query": "measure", "model": speech.model}).encode()
        return Request.of("POST", f"{self.floor.url}/answers", body=body)

    def token(self, number: int) -> str:
        """Of one of the users, in turn."""
        return self.tokens[number % USERS]

    @property
    def pids(self) -> dict[str, int]:
        return {name: self.cluster.pid(name) for name in PARTS}

    async def settled(self) -> None:
        """Wait until all that was said is archived: that is work too."""
        ends = time.monotonic() + SETTLE_SECONDS_MAX
        async with connect(self.cluster.redis_url) as redis:
            while not await _is_archived(redis, self.partitions):
                assert time.monotonic() < ends, "the persister does not come to an end"
                await asyncio.sleep(SETTLE_STEP_SECONDS)

    @asynccontextmanager
    async def without(self, *names: str) -> AsyncGenerator[None]:
        """Those parts are killed, and away for the length of the block; ready again behind it."""
        supervisor = self.cluster.supervisor
        for name in names:
            await asyncio.to_thread(supervisor.hold, name)
        try:
            yield
        finally:
            for name in names:
                await asyncio.to_thread(supervisor.release, name)
            await self.ready(*names)

    async def ready(self, *names: str) -> None:
        ends = time.monotonic() + READY_SECONDS_MAX
        keepers = [self.cluster.supervisor.keeper(name) for name in names]
        while any(keeper.state is not PartState.READY for keeper in keepers):
            assert time.monotonic() < ends, f"{', '.join(names)} did not come back"
            await asyncio.sleep(SETTLE_STEP_SECONDS)

    @property
    def partitions(self) -> int:
        return int(self.cluster.plan.env["HEADWATER_PARTITIONS"])


async def _is_archived(redis: Any, partitions: int) -> bool:
    pipeline = cast("Any", redis.pipeline(transaction=False))
    for partition in range(partitions):
        log = PartitionKeys(partition).log
        pipeline.xinfo_stream(log)
        pipeline.xinfo_groups(log)
    replies = await pipeline.execute()
    return all(
        group["pending"] == 0 and group["last-delivered-id"] == stream["last-generated-id"]
        for stream, groups in zip(replies[::2], replies[1::2], strict=True)
        for group in groups
        if group["name"] == PERSISTERS.encode()
    )


@contextmanager
def rig(
    speeches: Iterable[Speech],
    *,
    partitions: int = PARTITIONS,
    orchestrators: int = 1,
    env: Mapping[str, str] = NOTHING,
) -> Generator[Rig]:
    """Everything that runs, until the block ends. ``speeches`` are all that will be asked for."""
    with (
        TemporaryDirectory(prefix="headwater-bench-") as folder,
        spawned("tests.support.model_server") as model,
        spawned("tests.bench.floor", "--model", model.url) as floor,
    ):
        planned = plan(Path(folder), model.url, speeches, partitions=partitions, env=env)
        began = time.monotonic()
        with LocalCluster(replace(planned, orchestrators=orchestrators)) as cluster:
            started = time.monotonic() - began
            tokens = {number: cluster.token(f"bench-{number}") for number in range(USERS)}
            yield Rig(cluster, model, floor, started, tokens)


def plan(
    folder: Path,
    model_url: str,
    speeches: Iterable[Speech],
    *,
    partitions: int = PARTITIONS,
    env: Mapping[str, str] = NOTHING,
) -> Plan:
    """Of a cluster that asks this model, in a folder of its own."""
    agents = folder / "agents.json"
    listed = [{"name": speech.agent, "model": speech.model} for speech in speeches]
    agents.write_text(json.dumps({"agents": [{"name": "default"}, *listed]}))
    settings = {
        "HEADWATER_AGENTS_FILE": str(agents),
        "HEADWATER_JOBS_PER_WORKER": str(JOBS_PER_WORKER),
        "HEADWATER_LOG_LEVEL": "WARNING",
        "HEADWATER_PARTITIONS": str(partitions),
        **env,
    }
    return Plan(data_dir=folder, llm_base_url=model_url, env=settings)
