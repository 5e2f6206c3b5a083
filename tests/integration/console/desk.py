"""The operator's desk, and the stores behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from shared.commands import RunJob
from shared.hot_state import HotState, Job
from shared.keys import PartitionKeys
from tests.integration.console.program import Program, Ran
from tests.integration.orchestrator.models import Scripted
from tests.integration.orchestrator.workers import Bench
from tests.integration.persister.running import eventually
from tests.integration.persister.writer import PARTITIONS, Writer

DEFECT = RuntimeError("a defect in a node")
EVENT = ("kind", "event", "reason", "r", "at", "now", "entry", "1-1", "d", "x")


class Desk:
    """Call it with the arguments of `dead-letters`."""

    def __init__(self, program: Program, writer: Writer, bench: Bench, database_url: str) -> None:
        self._program, self.writer, self._bench = program, writer, bench
        self.redis: Any = writer.redis
        self._database_url = database_url
        self._hot = HotState(writer.redis, PARTITIONS)

    async def __call__(self, *arguments: str) -> Ran:
        return await self._program.run("dead-letters", *arguments)

    async def ids(self) -> list[str]:
        ran = await self("--json")
        return [letter["id"] for letter in json.loads(ran.output)]

    async def only(self) -> str:
        [letter_id] = await self.ids()
        return letter_id

    @asynccontextmanager
    async def worker(self, **changes: Any) -> AsyncGenerator[None]:
        settings = {"partitions": PARTITIONS, "database_url": self._database_url, **changes}
        async with self._bench.worker(**{"model": Scripted(["fine"]), **settings}):
            yield

    async def job(self, job_id: str) -> Job:
        job = await self._hot.job(job_id)
        assert job is not None
        return job

    async def ended(self, job_id: str) -> Job:
        async def is_over() -> bool:
            return (await self.job(job_id)).is_over

        await eventually(is_over)
        return await self.job(job_id)

    async def letters(self) -> int:
        keys = map(PartitionKeys, range(PARTITIONS))
        return sum([await self.redis.xlen(partition.dead) for partition in keys])

    async def has_letters(self, count: int) -> None:
        async def are_there() -> bool:
            return await self.letters() == count

        await eventually(are_there)

    async def failed_job(self, content: str = "why?") -> RunJob:
        """A question whose only attempt met a defect."""
        command = await self.writer.ask(content=content, metadata={"page": 3}, session_id="s1")
        before = await self.letters()
        async with self.worker(model=Scripted(["half"], defect=DEFECT), attempts_max=1):
            await self.has_letters(before + 1)
        return command

    async def asked(self, thread_id: str) -> list[dict[str, Any]]:
        """The messages of users."""
        records = await self.writer.records(thread_id)
        return [json.loads(r.data) for r in records if r.type == "message.posted"]

    async def written(self, *pairs: str | bytes, partition: int = 0) -> str:
        dead = PartitionKeys(partition).dead
        entry_id = await self.redis.execute_command("XADD", dead, "*", *pairs)
        return f"{partition}:{entry_id.decode()}"
