"""Who is in the threads that this gateway has sockets in, told to Redis and kept there.

    enter ──▶ leased at once ──▶ renewed while the socket is open ──▶ leave: with the next round
                                     └── gateway killed: runs out by itself

Failures
    Redis away   Nobody is told who comes; a socket opens all the same, and its lease is written
                 with the next renewal.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from services.api.lenient import Lenient
from shared.cancellation import end_tasks
from shared.errors import LogUnavailable
from shared.keys import PRESENCE_SECONDS
from shared.observability import get_logger
from shared.presence import LEAVING_SECONDS, Attendance, Member, Presence
from shared.signals import Signal

ROUND_SECONDS: Final = 0.5
RENEW_SECONDS: Final = PRESENCE_SECONDS / 3
THREADS_PER_CALL: Final = 200
STOP_SECONDS_MAX: Final = 1.0

log = get_logger()


class Attendances:
    """One per process. ``start`` it in the loop that serves the sockets."""

    def __init__(self, presence: Presence, lenient: Lenient) -> None:
        self._presence, self._lenient = presence, lenient
        self._here: defaultdict[str, set[Member]] = defaultdict(set)
        self._gone: defaultdict[str, set[Member]] = defaultdict(set)
        self._look_again: dict[str, float] = {}  # when those who left are to be told
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return self._tasks

    async def enter(self, thread_id: str, member: Member) -> list[Member]:
        """Everybody who is in the thread now; only the newcomer while Redis is away."""
        self._here[thread_id].add(member)
        attendance = Attendance(thread_id, [member])
        found = await self._lenient.ask(lambda: self._presence.keep(attendance))
        return found or [member]

    def leave(self, thread_id: str, member: Member) -> None:
        """Idempotent."""
        if member in self._here.get(thread_id, ()):
            self._here[thread_id].discard(member)
            self._gone[thread_id].add(member)
            if not self._here[thread_id]:
                del self._here[thread_id]

    async def of(self, thread_id: str) -> list[Member]:
        """Everybody who is in the thread now. Raises LogUnavailable."""
        return await self._presence.of(thread_id)

    async def tell(self, thread_id: str, signal: Signal) -> None:
        """Signal everybody who is in the thread; nobody while Redis is away."""
        await self._lenient.ask(lambda: self._presence.tell(thread_id, signal))

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep_for_ever(), name="presence.keep")]

    async def stop(self) -> None:
        """Give up what was left by now; who was told to reconnect has a moment to be back."""
        await end_tasks(self._tasks, seconds_max=STOP_SECONDS_MAX)
        gone = self._take_gone()
        if gone:
            await self._lenient.ask(lambda: self._keep(gone, gone))

    async def _keep_for_ever(self) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            now, gone = time.monotonic(), self._take_gone()
            due = [thread for thread, moment in self._look_again.items() if moment <= now]
            for thread_id in due:
                del self._look_again[thread_id]
            self._look_again |= dict.fromkeys(gone, now + LEAVING_SECONDS)
            threads = {*gone, *due}
            if now - renewed >= RENEW_SECONDS:
                renewed, threads = now, threads | self._here.keys()
            try:
                await self._keep(threads, gone)
            except LogUnavailable as error:
                log.warning("presence not renewed", reason=str(error))

    async def _keep(self, threads: Iterable[str], gone: dict[str, set[Member]]) -> None:
        calls = [
            Attendance(thread, list(self._here.get(thread, ())), list(gone.get(thread, ())))
            for thread in threads
        ]
        for first in range(0, len(calls), THREADS_PER_CALL):
            await self._presence.keep_many(calls[first : first + THREADS_PER_CALL])

    def _take_gone(self) -> dict[str, set[Member]]:
        gone, self._gone = self._gone, defaultdict(set)
        return gone
