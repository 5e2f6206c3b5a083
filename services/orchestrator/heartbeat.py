"""Leases are renewed from a thread of its own, so that a busy event loop loses no job.

    event loop ── holding ──▶ ┌ thread ──────────────┐ ── renew_lease (pipelined) ──▶ Redis
               ◀── stop ───── │ every heartbeat      │ ◀── KEPT | LOST, cancel?
                              └──────────────────────┘

Failures
    LOST               Another worker began the job: it is stopped here.
    REWOUND            Redis lost the attempt's beginning: the writer asks to resume it. Until that
                       is granted the lease is not renewed.
    No answer          A lease after the last renewal somebody else may begin the job, so it is
                       stopped here without waiting for Redis to say so. The event loop looks at the
                       clock, so this holds also when the thread hangs on a dead connection.
    Loop blocked       Beats go on; the calls of ``stop`` run when the loop comes back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

from services.orchestrator.job_writer import Stop
from shared.blocking_calls import blocking_calls
from shared.errors import LogUnavailable
from shared.event_log import EventLog, Lease
from shared.observability import get_logger
from shared.redis_client import RedisError
from shared.redis_scripts import Call

log = get_logger()


@dataclass(slots=True, eq=False)
class _Held:
    call: Call
    tell: Callable[[Stop], object]  # from any thread
    renewed_at: float  # time.monotonic(), before the renewal was sent


class Heartbeat:
    """Renews what is held, from ``start`` to ``stop``."""

    def __init__(
        self,
        redis_url: str,
        event_log: EventLog,
        *,
        consumer: str,
        every_seconds: float,
        lease_seconds: float,
    ) -> None:
        self._calls = blocking_calls(redis_url, reply_seconds_max=lease_seconds / 3)
        self._log = event_log
        self._consumer = consumer
        self._every_seconds = every_seconds
        self._lease_seconds = lease_seconds
        self._held: set[_Held] = set()
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @contextmanager
    def holding(self, lease: Lease, stop: Callable[[Stop], None]) -> Generator[None]:
        """Renew the lease while inside. ``stop`` is called in the event loop, maybe repeatedly."""

        def tell(reason: Stop) -> None:
            if held in self._held:  # or the attempt has ended while it was renewed
                stop(reason)

        told = partial(asyncio.get_running_loop().call_soon_threadsafe, tell)
        held = _Held(self._log.renew_call(lease, self._consumer), told, time.monotonic())
        with self._guard:
            self._held.add(held)
        watch = asyncio.create_task(self._stop_when_over(held))
        try:
            yield
        finally:
            watch.cancel()
            with self._guard:
                self._held.discard(held)

    async def _stop_when_over(self, held: _Held) -> None:
        left = self._lease_seconds
        while left > 0:
            await asyncio.sleep(left)
            left = held.renewed_at + self._lease_seconds - time.monotonic()
        log.warning("lease not renewed in time")
        held.tell(Stop.LOST)

    def _run(self) -> None:
        with closing(self._calls):
            while not self._ended.wait(self._every_seconds):
                with self._guard:
                    held = list(self._held)
                try:
                    self._beat(held)
                except (RedisError, LogUnavailable) as error:
                    log.warning("heartbeat failed", reason=type(error).__name__, jobs=len(held))

    def _beat(self, held: Sequence[_Held]) -> None:
        sent_at = time.monotonic()
        for each, reply in zip(held, self._calls.send([each.call for each in held]), strict=True):
            if isinstance(reply, Exception):
                log.warning("lease not renewed", reason=str(reply))
                continue
            renewed = self._log.renewed(reply)
            if renewed.rewound:
                each.tell(Stop.REWOUND)
                continue
            each.renewed_at = sent_at
            if not renewed.kept:
                each.tell(Stop.LOST)
            elif renewed.cancel:
                each.tell(Stop.CANCEL)
