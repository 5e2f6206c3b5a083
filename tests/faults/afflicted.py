"""Faults that strike from inside a service: what no signal and no proxy can bring about.

A service is imported by the patch that changes it, so that no other has to load it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

PUBLISHES_PER_LOSS = 5
CRASHES_MAX = 4  # of all persisters of a cluster together
COMMIT_SECONDS = 0.4


def deaf_worker() -> None:
    """A zombie that is not told: it renews its leases, and hears nothing of their loss."""
    from services.orchestrator.heartbeat import Heartbeat

    async def wait_for_ever(*_: Any) -> None:
        await asyncio.Event().wait()

    def beat(self: Any, held: Sequence[Any]) -> None:
        self._calls.send([each.call for each in held])

    cast("Any", Heartbeat)._stop_when_over = wait_for_ever
    cast("Any", Heartbeat)._beat = beat


def heir() -> None:
    """A worker that takes over what others leave, and nothing new."""
    from services.orchestrator.consumer import Consumer

    subscribe = cast("Any", Consumer)._subscribe

    def reclaim_only(self: Any, keys: Any, **source: Any) -> None:
        if "min_idle_time" in source:
            subscribe(self, keys, **source)

    cast("Any", Consumer)._subscribe = reclaim_only


def lossy_ear() -> None:
    """A gateway that misses every fifth publish."""
    from shared.channels import Channels

    tell, heard = Channels._tell, 0

    def forgetful(self: Any, message: Any) -> None:
        nonlocal heard
        if message[0] == b"smessage":
            heard += 1
            if heard % PUBLISHES_PER_LOSS == 0:
                return
        tell(self, message)

    cast("Any", Channels)._tell = forgetful


def crash_after_commit() -> None:
    """A persister that dies between its commit and its acknowledgement, CRASHES_MAX times."""
    from services.persister.store import Store

    commit = Store.commit_round
    folder = Path(os.environ["HEADWATER_DATA_DIR"])

    async def fatal(self: Any, *batch: Any) -> Any:
        archived = await commit(self, *batch)
        for number in range(CRASHES_MAX):
            try:
                (folder / f"crash-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        return archived

    cast("Any", Store).commit_round = fatal


def slow_archive() -> None:
    """A persister whose commits take so long that more is always waiting for it."""
    from services.persister.store import Store

    commit = Store.commit_round

    async def slow(self: Any, *batch: Any) -> Any:
        await asyncio.sleep(COMMIT_SECONDS)
        return await commit(self, *batch)

    cast("Any", Store).commit_round = slow


AFFLICTIONS: dict[str, Callable[[], None]] = {
    patch.__name__: patch
    for patch in (deaf_worker, heir, lossy_ear, crash_after_commit, slow_archive)
}
