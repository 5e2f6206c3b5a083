"""One client's place in a thread: a cursor, a bounded buffer, and the rule that joins them.

    level    everything up to the cursor was given out, or waits in the buffer without hole
    behind   something may be missing: the buffer is empty, and the stream is read from the cursor

A follower begins behind. Reading makes it level: whatever is published from then on is buffered,
and what the read and the buffer both hold is given out once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from services.api.history import History, HoleInStream
from shared.codec import Record
from shared.errors import ArchiveUnavailable, LogUnavailable
from shared.observability import get_logger

BUFFER_BYTES_MAX: Final = 256 * 1024  # published, and not yet taken by a slow client
RETRY_SECONDS: Final = 0.5

log = get_logger()

Wanted = Callable[[Record], bool]


class Follower:
    """Yields a thread's records behind a cursor, in order, each once."""

    __slots__ = (
        "_behind",
        "_buffer",
        "_buffered_bytes",
        "_history",
        "_idle",
        "_ping_due",
        "_reading",
        "_wake",
        "_wanted",
        "cursor",
        "draining",
        "thread_id",
    )

    def __init__(
        self, history: History, thread_id: str, *, after: int, wanted: Wanted | None = None
    ) -> None:
        self._history = history
        self._wanted = wanted
        self.thread_id = thread_id
        self.cursor = after  # the position of the last record given out or passed over
        self.draining = False
        self._behind = True
        self._buffer: list[Record] = []
        self._buffered_bytes = 0
        self._idle = self._ping_due = False
        self._wake = asyncio.Event()
        self._reading: asyncio.Timeout | None = None

    @property
    def is_level(self) -> bool:
        """Whether the cursor tells how far this follower knows the thread."""
        return not self._behind and not self._buffer

    async def next(self) -> list[Record]:
        """The next records; empty when the client should be sent a ping, or must go (draining).

        Waits while there is nothing, and while the stores are away.
        """
        while not self.draining:
            self._wake.clear()
            if self._ping_due:
                self._ping_due = False
                return []
            records = await self._catch_up() if self._behind else self._take_buffer()
            if self._wanted is not None:
                records = list(filter(self._wanted, records))
            if records:
                self._idle = False
                return records
            if self.is_level:
                await self._wake.wait()
        return []

    # ── called by the feed ─────────────────────────────────────────────────────────────────────

    def offer(self, records: list[Record], size: int) -> None:
        """Live records, without hole among them, and how many bytes they are."""
        if self._behind:
            return  # it will read them
        if self._buffer and records[0].position != self._buffer[-1].position + 1:
            self.fall_behind()
            return
        self._buffer += records
        self._buffered_bytes += size
        if self._buffered_bytes > BUFFER_BYTES_MAX:
            self.fall_behind()
        self._wake.set()

    def fall_behind(self) -> None:
        """Something may have been missed: read before going on."""
        self._behind = True
        self._drop_buffer()
        self._wake.set()

    def ping(self) -> None:
        """Wake an idle client, so that proxies see life; a busy one shows it by itself."""
        if self._idle:
            self._ping_due = True
            self._wake.set()
        self._idle = True

    def end(self) -> None:
        """Make ``next`` return now, whatever it waits for."""
        if self.draining:
            return
        self.draining = True
        self._wake.set()
        if self._reading is not None:
            self._reading.reschedule(0)

    # ── joining buffer and stream ──────────────────────────────────────────────────────────────

    def _drop_buffer(self) -> None:
        self._buffer = []
        self._buffered_bytes = 0

    def _take_buffer(self) -> list[Record]:
        """What the buffer holds right behind the cursor; a hole means the stream must be read."""
        records = self._buffer
        self._drop_buffer()
        if records and records[0].position <= self.cursor:
            records = [record for record in records if record.position > self.cursor]
        if not records:
            return []
        if records[0].position != self.cursor + 1:
            self.fall_behind()
            return []
        self.cursor = records[-1].position
        return records

    async def _catch_up(self) -> list[Record]:
        self._behind = False  # before reading: whatever comes meanwhile counts
        try:
            async with asyncio.timeout(None) as self._reading:  # until ``end``
                records, more = await self._history.behind(self.thread_id, self.cursor)
        except TimeoutError:
            self._behind = True
            return []
        except (LogUnavailable, ArchiveUnavailable, HoleInStream) as error:
            await self._wait_for_stores(error)
            return []
        finally:
            self._reading = None
        if more:
            self.fall_behind()
        if records:
            self.cursor = records[-1].position
        return records

    async def _wait_for_stores(self, error: Exception) -> None:
        log.warning("follower waits for the stores", thread_id=self.thread_id, reason=str(error))
        self._behind = True
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return
