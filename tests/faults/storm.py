"""The storm: people go on asking while faults strike by seed, several at a time.

    askers ───▶ question, two viewers, now and then a cancel, sometimes in a thread that is busy
    weather ──▶ a fault, a pause, a fault …   FAULTS_AT_ONCE_MAX at a time, one at a time per part

Which fault strikes, whom, when and for how long follows from the row's random source; what the
system makes of it is its own affair.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from shared.keys import PartitionKeys
from shared.redis_client import RedisError, connect
from tests.faults import poison
from tests.faults.arena import Row
from tests.faults.slow_clients import slow_clients
from tests.faults.workload import Job

FAULTS_AT_ONCE_MAX: Final = 3
STREAMS_MAX: Final = 14
BETWEEN_ASKS_SECONDS: Final = (0.2, 0.9)
BETWEEN_FAULTS_SECONDS: Final = (0.2, 1.5)
FROZEN_SECONDS: Final = (0.5, 4.0)  # less than a lease, and more
AWAY_SECONDS: Final = (0.2, 5.0)
SLOW_SECONDS: Final = 3.0
CANCELLED: Final = 0.15  # of the questions
IN_A_KNOWN_THREAD: Final = 0.3
AGENTS: Final = ("quick", "steady", "slow", "slow", "steady-long", "long")
SERVICES: Final = tuple(
    f"{kind}-{number}" for kind in ("api", "orchestrator", "persister") for number in (1, 2)
)

Fault = Callable[[], Awaitable[None]]


class Storm:
    """One storm over a row."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._random: random.Random = row.random
        self._struck: set[str] = set()  # the parts that a fault is at
        self.counts: dict[str, int] = {}

    async def rage(self, seconds: float) -> None:
        """Let it rage for so long, and wait until the last fault is over."""
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask_until(end))
            group.create_task(self._strike_until(end))

    # ── people ─────────────────────────────────────────────────────────────────────────────────

    async def _ask_until(self, end: float) -> None:
        users = self._row.users
        async with asyncio.TaskGroup() as cancels:
            while time.monotonic() < end:
                await self._pause(BETWEEN_ASKS_SECONDS)
                if sum(not viewer.is_done for viewer in users.viewers) >= STREAMS_MAX:
                    continue
                known = users.jobs and self._random.random() < IN_A_KNOWN_THREAD
                thread = {"thread_id": self._random.choice(users.jobs).thread_id} if known else {}
                number = len(users.jobs)
                job = await users.ask(
                    f"question {number}", agent=self._random.choice(AGENTS), **thread
                )
                for _ in range(self._random.choice((1, 1, 2))):
                    users.watch(job)
                if self._random.random() < CANCELLED:
                    cancels.create_task(self._cancel(job))

    async def _cancel(self, job: Job) -> None:
        await self._pause((0.0, 3.0))
        await self._row.users.cancel(job)

    # ── weather ────────────────────────────────────────────────────────────────────────────────

    async def _strike_until(self, end: float) -> None:
        async with asyncio.TaskGroup() as faults:
            while time.monotonic() < end:
                await self._pause(BETWEEN_FAULTS_SECONDS)
                name = self._random.choice(list(self._faults))
                target, strike = self._faults[name]()
                if target in self._struck or len(self._struck) >= FAULTS_AT_ONCE_MAX:
                    continue
                self.counts[name] = self.counts.get(name, 0) + 1
                self._struck.add(target)
                faults.create_task(self._strike(target, strike))

    async def _strike(self, target: str, strike: Fault) -> None:
        try:
            with suppress(ProcessLookupError):  # it is down already
                await strike()
        finally:
            self._struck.discard(target)

    @property
    def _faults(self) -> dict[str, Callable[[], tuple[str, Fault]]]:
        """By name: draws whom it strikes, and how."""
        return {
            "kill": self._kill,
            "terminate": self._terminate,
            "freeze": self._freeze,
            "kill redis": lambda: ("valkey", self._once("valkey", self._row.faults.kill)),
            "kill postgres": lambda: ("postgres", self._once("postgres", self._row.faults.kill)),
            "redis away": lambda: self._away("valkey"),
            "postgres away": lambda: self._away("postgres"),
            "service away": lambda: self._away(self._service()),
            "poison": lambda: ("poison", self._poison),
            "slow clients": lambda: ("clients", self._slow_clients),
        }

    def _service(self) -> str:
        return self._random.choice(SERVICES)

    def _kill(self) -> tuple[str, Fault]:
        name = self._service()
        return name, self._once(name, self._row.faults.kill)

    def _terminate(self) -> tuple[str, Fault]:
        name = self._service()
        return name, self._once(name, self._row.faults.term)

    def _freeze(self) -> tuple[str, Fault]:
        name, seconds = self._service(), self._random.uniform(*FROZEN_SECONDS)
        return name, lambda: self._row.faults.stop_cont(name, seconds)

    def _away(self, name: str) -> tuple[str, Fault]:
        seconds = self._random.uniform(*AWAY_SECONDS)
        return name, lambda: self._row.faults.hold(name, seconds)

    def _once(self, name: str, act: Callable[[str], None]) -> Fault:
        async def strike() -> None:
            act(name)
            await self._row.faults.ready(name)

        return strike

    async def _poison(self) -> None:
        keys = PartitionKeys(poison.POISON_PARTITION)
        async with connect(self._row.cluster.redis_url) as redis:
            with suppress(RedisError):
                await poison.put(redis, keys.commands, poison.commands())
                await poison.put(redis, keys.log, poison.events())

    async def _slow_clients(self) -> None:
        users = self._row.users
        if not users.jobs:
            return
        job = self._random.choice(users.jobs)
        path, token = f"/v1/jobs/{job.job_id}/events", self._row.cluster.token(job.user)
        url = self._random.choice(self._row.cluster.urls)
        with suppress(OSError, TimeoutError):
            async with slow_clients(url, path, token, silent=4, trickling=1):
                await asyncio.sleep(SLOW_SECONDS)

    async def _pause(self, seconds: tuple[float, float]) -> None:
        await asyncio.sleep(self._random.uniform(*seconds))
