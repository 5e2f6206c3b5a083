"""How a process lives: start, be ready, drain, stop.

    start() ──▶ ready ──SIGTERM──▶ drain() ──▶ stop() ──▶ exit 0
                  │                  takes nothing new, finishes what it holds,
                  │ failed()         at most `drain_seconds`; a second signal: `hurry()`
                  └──────────▶ drain(), stop(), exit 1: somebody starts it again

The contract of a ``Service``: stop before start and stop twice are harmless; ``drain`` may be cut
short by cancellation, and ``stop`` still runs; ``stop`` returns when everything is released;
``is_ready`` tells the truth now, cheaply.

Readiness is a file that is touched every second: its age can be looked at by a supervisor or a
container's probe without opening a port.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from shared.cancellation import end_tasks
from shared.observability import get_logger

READY_TOUCH_SECONDS: Final = 1.0
STOP_SECONDS_MAX: Final = 5.0

log = get_logger()


class Service(Protocol):
    async def start(self) -> None:
        """Become able to work. Raises HeadwaterError when that is impossible."""
        ...

    async def is_ready(self) -> bool:
        """Whether work sent here now would be done."""
        ...

    async def failed(self) -> str:
        """Return, with the reason, once the service can no longer work and must be restarted."""
        ...

    async def drain(self) -> None:
        """Take nothing new and finish what is held. May be cancelled when time is up."""
        ...

    async def stop(self) -> None:
        """Release everything. Idempotent."""
        ...


async def run_service(
    service: Service,
    *,
    ready_file: Path | None,
    drain_seconds: float,
    hurry: Callable[[], object] | None = None,
) -> int:
    """Run until SIGTERM or SIGINT (0) or until the service has failed (1): the exit code.

    ``hurry`` is called at every further signal: who asks twice does not want to wait.
    """
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set() and hurry is not None:
            hurry()
        asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)  # a killed predecessor's
    try:
        if not await _started(service, asked):
            return 0
        log.info("started")
        reason = await _until_asked_or_failed(service, asked, ready_file)
        log.info("draining", reason=reason or "asked to stop")
        try:
            async with asyncio.timeout(drain_seconds):
                await service.drain()
        except TimeoutError:
            log.warning("drain cut short", drain_seconds=drain_seconds)
        return 1 if reason else 0
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await service.stop()
        log.info("stopped")


async def _started(service: Service, asked: asyncio.Event) -> bool:
    """Start the service; False when somebody asked the process to stop before it was through."""
    start = asyncio.create_task(service.start())
    stop = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            start.result()  # raises what kept it from starting
            return True
        return False
    finally:
        await end_tasks((start, stop), seconds_max=STOP_SECONDS_MAX)


async def _until_asked_or_failed(
    service: Service, asked: asyncio.Event, ready_file: Path | None
) -> str | None:
    """The reason of a failure, or None when somebody asked the process to stop."""
    beacon = asyncio.create_task(_touch_while_ready(service, ready_file))
    stop = asyncio.create_task(asked.wait())
    failure = asyncio.create_task(service.failed())
    try:
        await asyncio.wait({stop, failure, beacon}, return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            return failure.result()
        if beacon.done():
            beacon.result()  # raises what broke it
        return None
    finally:
        await end_tasks((beacon, stop, failure), seconds_max=STOP_SECONDS_MAX)
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


async def _touch_while_ready(service: Service, ready_file: Path | None) -> None:
    while True:
        if ready_file is not None:
            if await service.is_ready():
                ready_file.touch()
            else:
                ready_file.unlink(missing_ok=True)
        await asyncio.sleep(READY_TOUCH_SECONDS)
