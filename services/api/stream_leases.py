"""How many streams, or sockets, a user may have open, on all gateways together.

    open ──▶ a lease in Redis ──▶ renewed while it is held ──▶ closed: given up within a second
                                     └── gateway killed: runs out by itself

A lease that is dropped without being closed (a client that left before its stream began) is not
renewed any more.

Failures
    Redis away, slow   A stream opens all the same; its lease is written with the next renewal.
    Redis lost them    The same.
    Gateway killed     Its streams are counted for STREAM_LEASE_SECONDS more.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from typing import Final
from weakref import WeakSet

from services.api.lenient import Lenient
from shared.cancellation import end_tasks
from shared.errors import LogUnavailable, TooManySockets, TooManyStreams
from shared.observability import get_logger
from shared.quotas import STREAM_LEASE_SECONDS, Kind, Quotas, Renewal

ROUND_SECONDS: Final = 1.0
RENEW_SECONDS: Final = STREAM_LEASE_SECONDS / 3
USERS_PER_CALL: Final = 200
STOP_SECONDS_MAX: Final = 1.0
_REFUSALS: Final = {"streams": TooManyStreams, "sockets": TooManySockets}

log = get_logger()


class Lease:
    """The right to one open stream; a context that closes it."""

    __slots__ = ("__weakref__", "_leases", "stream_id", "user")

    def __init__(self, leases: StreamLeases, user: str) -> None:
        self._leases = leases
        self.user, self.stream_id = user, secrets.token_hex(8)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._leases.close(self)


class StreamLeases:
    """One per process and kind. ``start`` it in the loop that serves the streams."""

    def __init__(
        self, quotas: Quotas, lenient: Lenient, *, per_user: int, kind: Kind = "streams"
    ) -> None:
        self._quotas, self._lenient = quotas, lenient
        self._per_user = per_user
        self._kind: Kind = kind
        self._held: WeakSet[Lease] = WeakSet()
        self._closed: defaultdict[str, list[str]] = defaultdict(list)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return self._tasks

    @property
    def open_count(self) -> int:
        return len(self._held)

    async def open(self, user: str) -> Lease:
        """Raises TooManyStreams, TooManySockets."""
        lease = Lease(self, user)
        if self._per_user:
            closed = self._closed.pop(user, [])
            opened = await self._lenient.ask(
                lambda: self._quotas.open_stream(
                    user, lease.stream_id, places=self._per_user, closed=closed, kind=self._kind
                )
            )
            if opened is False:
                raise _REFUSALS[self._kind]()
        self._held.add(lease)
        return lease

    def close(self, lease: Lease) -> None:
        """Idempotent."""
        if lease in self._held:
            self._held.discard(lease)
            if self._per_user:
                self._closed[lease.user].append(lease.stream_id)

    async def start(self) -> None:
        if self._per_user:
            self._tasks = [asyncio.create_task(self._keep_for_ever(), name=f"{self._kind}.keep")]

    async def stop(self) -> None:
        """Give up what is closed by now."""
        await end_tasks(self._tasks, seconds_max=STOP_SECONDS_MAX)
        if self._tasks:
            await self._lenient.ask(lambda: self._send(self._take_closed()))

    async def _keep_for_ever(self) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            closed, held = self._take_closed(), dict[str, list[str]]()
            if time.monotonic() - renewed >= RENEW_SECONDS:
                renewed, held = time.monotonic(), self._by_user()
            try:
                await self._send(closed, held)
            except LogUnavailable as error:
                log.warning("stream leases not renewed", reason=str(error))

    async def _send(
        self, closed: dict[str, list[str]], held: dict[str, list[str]] | None = None
    ) -> None:
        opened = held or {}
        users = list(dict.fromkeys((*opened, *closed)))
        renewals = [Renewal(user, opened.get(user, []), closed.get(user, [])) for user in users]
        for first in range(0, len(renewals), USERS_PER_CALL):
            part = renewals[first : first + USERS_PER_CALL]
            await self._quotas.keep_streams(part, kind=self._kind)

    def _take_closed(self) -> dict[str, list[str]]:
        closed, self._closed = self._closed, defaultdict(list)
        return closed

    def _by_user(self) -> dict[str, list[str]]:
        held: defaultdict[str, list[str]] = defaultdict(list)
        for lease in self._held:
            held[lease.user].append(lease.stream_id)
        return held
