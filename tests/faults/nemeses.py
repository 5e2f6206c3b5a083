"""Faults. Each is recorded when it begins and when it ends; one that lasts is a block long."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from infra.local.cluster import LocalCluster
from infra.local.keeper import Keeper
from infra.local.part import PartState
from tests.faults.history import History

READY_SECONDS_MAX = 120.0
POLL_SECONDS = 0.02


class Nemeses:
    """What may be done to the parts of one cluster."""

    def __init__(self, cluster: LocalCluster, history: History) -> None:
        self._cluster = cluster
        self._history = history
        self._leaving: dict[str, int] = {}  # the pids that were told to end, and may still run

    async def healed(self) -> None:
        """Wait until all parts are ready again."""
        await self.ready(*(keeper.part.name for keeper in self._cluster.supervisor.keepers))

    async def ready(self, *names: str) -> None:
        """Wait until these parts are up."""
        keepers = [self._cluster.supervisor.keeper(name) for name in names]
        deadline = time.monotonic() + READY_SECONDS_MAX
        while waiting := [one for one in keepers if not self._is_up(one)]:
            states = [f"{one.part.name} is {one.state}" for one in waiting]
            assert time.monotonic() < deadline, f"after the faults: {states}"
            await asyncio.sleep(POLL_SECONDS)

    def kill(self, name: str) -> None:
        """kill -9. The part is started again by itself. ProcessLookupError when it is down."""
        self._end(f"kill {name}", name, signal.SIGKILL)

    def term(self, name: str) -> None:
        """SIGTERM: the service drains, ends, and is started again."""
        # On SIGTERM PostgreSQL waits until the last client has left.
        self._end(f"term {name}", name, signal.SIGINT if name == "postgres" else signal.SIGTERM)

    @asynccontextmanager
    async def stopped(self, name: str) -> AsyncGenerator[None]:
        """SIGSTOP for the length of the block, then SIGCONT."""
        pid = self._cluster.pid(name)
        async with self.lasting(f"stop {name}"):
            os.kill(pid, signal.SIGSTOP)
            try:
                yield
            finally:
                with suppress(ProcessLookupError):  # another fault has ended it
                    os.kill(pid, signal.SIGCONT)

    async def stop_cont(self, name: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT so much later."""
        async with self.stopped(name):
            await asyncio.sleep(seconds)

    @asynccontextmanager
    async def down(self, name: str) -> AsyncGenerator[None]:
        """Killed, and not started again before the end of the block."""
        supervisor = self._cluster.supervisor
        async with self.lasting(f"hold {name}"):
            await asyncio.to_thread(supervisor.hold, name)
            try:
                yield
            finally:
                await asyncio.to_thread(supervisor.release, name)
        await self.ready(name)

    async def hold(self, name: str, seconds: float) -> None:
        """Down for that long; returns when it is up again."""
        async with self.down(name):
            await asyncio.sleep(seconds)

    @asynccontextmanager
    async def lasting(self, name: str) -> AsyncGenerator[None]:
        self._history.add("fault", name=name, phase="begin")
        try:
            yield
        finally:
            self._history.add("fault", name=name, phase="end")

    def _end(self, fault: str, name: str, sent: signal.Signals) -> None:
        self._leaving[name] = self._cluster.pid(name)
        # A part that is killed in row after row is not in a crash loop: no longer and longer waits.
        self._cluster.supervisor.keeper(name).deaths_in_a_row = 0
        self._history.add("fault", name=fault, phase="begin")
        self._cluster.kill(name, sent)
        self._history.add("fault", name=fault, phase="end")

    def _is_up(self, keeper: Keeper) -> bool:
        """Ready, and not because nobody has noticed yet that its process ends."""
        if keeper.state is PartState.DONE:
            return True
        leaving = self._leaving.get(keeper.part.name)
        return (
            keeper.state is PartState.READY
            and keeper.child is not None
            and keeper.child.pid != leaving
        )
