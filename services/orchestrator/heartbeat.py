"""Leases are renewed from a thread of its own, so that a busy event loop loses no job.

    event loop ── hold(lease) ──▶ ┌ thread ──────────────┐ ── renew_lease (pipelined) ──▶ Redis
               ◀── on_lost() ──── │ every heartbeat      │ ◀── KEPT | LOST, cancel?
               ◀── on_cancel() ── └──────────────────────┘

Failures
    LOST               Another worker began the job: ``on_lost`` stops it here.
    No answer          After a lease without an answer somebody else may have begun it: ``on_lost``,
                       without waiting for Redis to say so.
    Loop blocked       Beats go on; the callbacks run when the loop comes back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from redis.exceptions import NoScriptError, RedisError

from shared.event_log import EventLog, Lease
from shared.observability import get_logger
from shared.redis_client import connect_blocking
from shared.redis_scripts import Call

log = get_logger()


@dataclass(slots=True, eq=False)
class _Held:
    lease: Lease
    on_lost: Callable[[], None]
    on_cancel: Callable[[], None]
    renewed_at: float  # time.monotonic()


class Heartbeat:
    """Renews what is held. Start and stop from the event loop that the callbacks belong to."""

    def __init__(
        self,
        redis_url: str,
        event_log: EventLog,
        *,
        consumer: str,
        every_seconds: float,
        lease_seconds: float,
    ) -> None:
        self._redis = connect_blocking(redis_url, reply_seconds_max=lease_seconds / 3)
        self._log = event_log
        self._consumer = consumer
        self._every_seconds = every_seconds
        self._lease_seconds = lease_seconds
        self._held: set[_Held] = set()
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        self._redis.close()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @contextmanager
    def holding(
        self, lease: Lease, *, on_lost: Callable[[], None], on_cancel: Callable[[], None]
    ) -> Iterator[None]:
        """Renew the lease while inside. Callbacks run in the event loop, possibly repeatedly."""
        held = _Held(lease, on_lost, on_cancel, time.monotonic())
        with self._guard:
            self._held.add(held)
        try:
            yield
        finally:
            with self._guard:
                self._held.discard(held)

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            with self._guard:
                held = list(self._held)
            if held:
                self._beat(held)

    def _beat(self, held: list[_Held]) -> None:
        try:
            replies = self._send(
                [self._log.renew_call(each.lease, self._consumer) for each in held]
            )
        except RedisError as error:
            log.warning("heartbeat failed", reason=type(error).__name__, jobs=len(held))
            replies = [error] * len(held)
        now = time.monotonic()
        for each, reply in zip(held, replies, strict=True):
            if isinstance(reply, Exception):
                if now - each.renewed_at > self._lease_seconds:
                    self._call(each.on_lost)
                continue
            renewed = self._log.renewed(reply)
            each.renewed_at = now
            if not renewed.kept:
                self._call(each.on_lost)
            elif renewed.cancel:
                self._call(each.on_cancel)

    def _send(self, calls: list[Call]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*call.by_hash())
        replies = cast("list[Any]", pipeline.execute(raise_on_error=False))
        return [
            self._redis.execute_command(*call.by_source())
            if isinstance(reply, NoScriptError)
            else reply
            for call, reply in zip(calls, replies, strict=True)
        ]

    def _call(self, callback: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(callback)
