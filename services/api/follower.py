"""One client's place in a thread: a cursor, a bounded buffer, and the rule that joins them."""

from __future__ import annotations

import asyncio
from typing import Final

from shared.archive import Archive
from shared.codec import Record
from shared.errors import ArchiveUnavailable, LogUnavailable
from shared.hot_state import READ_COUNT_MAX, HotState
from shared.observability import get_logger

BUFFER_BYTES_MAX: Final = 256 * 1024  # of event data that waits for a slow client
RETRY_SECONDS: Final = 0.5

log = get_logger()


class Follower:
    """Yields a thread's records behind a cursor, in order, each once."""

    __slots__ = (
        "_archive",
        "_behind",
        "_buffer",
        "_buffered_bytes",
        "_hot",
        "_idle",
        "_wake",
        "cursor",
        "draining",
        "thread_id",
        "top",
    )

    def __init__(
        self, hot: HotState, archive: Archive, thread_id: str, *, after: int, top: int
    ) -> None:
        self._hot, self._archive = hot, archive
        self.thread_id = thread_id
        self.cursor = after  # the position of the last record given out
        self.top = top  # the stream is known to reach this far
        self.draining = False
        self._behind = True
        self._buffer: list[Record] = []
        self._buffered_bytes = 0
        self._idle = False
        self._wake = asyncio.Event()

    async def next(self) -> list[Record]:
        """The next records; empty when the client should be sent a ping, or must go (draining).

        Waits while there is nothing, and while the stores are away.
        """
        while not self.draining:
            if self._behind:
                records = await self._catch_up()
                if records:
                    return records
            records = self._continue()
            if records:
                return records
            if self._behind:
                continue
            self._wake.clear()
            await self._wake.wait()
            if self._idle and not self._behind and not self._buffer:
                return []
        return []

    # ── called by the feed ─────────────────────────────────────────────────────────────────────

    def offer(self, records: list[Record]) -> None:
        """Live records. A client too slow to take them will read them from the stream."""
        self._buffer += records
        self._buffered_bytes += sum(len(record.data) for record in records)
        if self._buffered_bytes > BUFFER_BYTES_MAX:
            self._drop_buffer()
            self._behind = True
        self._wake.set()

    def fall_behind(self) -> None:
        """Something may have been missed: read before going on."""
        self._behind = True
        self._wake.set()

    def ping(self) -> None:
        """Wake an idle client, so that proxies see life; a busy one shows it by itself."""
        if self._idle:
            self._wake.set()
        self._idle = True

    def end(self) -> None:
        self.draining = True
        self._wake.set()

    # ── joining buffer and stream ──────────────────────────────────────────────────────────────

    def _drop_buffer(self) -> None:
        self._buffer = []
        self._buffered_bytes = 0

    def _continue(self) -> list[Record]:
        """What the buffer holds right behind the cursor; a hole means the stream must be read."""
        buffer = self._buffer
        self._drop_buffer()
        fresh = [record for record in buffer if record.position > self.cursor]
        if not fresh:
            return []
        if fresh[0].position != self.cursor + 1 or not _contiguous(fresh):
            self._behind = True
            return []
        return self._give(fresh)

    async def _catch_up(self) -> list[Record]:
        """Records from the stream, or from the archive where Redis has let them go."""
        self._behind = False  # before reading: whatever comes meanwhile counts
        try:
            records = await self._hot.records(self.thread_id, after=self.cursor)
            if self._starts_late(records):
                records = await self._archived() or records
        except (LogUnavailable, ArchiveUnavailable) as error:
            log.warning("follower waits for the stores", reason=str(error))
            self._behind = True
            await asyncio.sleep(RETRY_SECONDS)
            return []
        if not records:
            self.top = min(self.top, self.cursor)  # nobody has what was promised: do not ask again
            return []
        if len(records) >= READ_COUNT_MAX or records[-1].position < self.top:
            self._behind = True
        return self._give(records)

    def _starts_late(self, records: list[Record]) -> bool:
        if records:
            return records[0].position != self.cursor + 1
        return self.top > self.cursor

    async def _archived(self) -> list[Record]:
        records = await self._archive.records(self.thread_id, after=self.cursor)
        if records and records[0].position != self.cursor + 1:
            log.error("hole in the stream", thread_id=self.thread_id, after=self.cursor)
        return records

    def _give(self, records: list[Record]) -> list[Record]:
        self.cursor = records[-1].position
        self._idle = False
        return records


def _contiguous(records: list[Record]) -> bool:
    return records[-1].position - records[0].position == len(records) - 1
