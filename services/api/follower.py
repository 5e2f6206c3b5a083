"""One client's place in a thread: a cursor, a bounded buffer, and the rule that joins them.

    level    everything up to the cursor was given out, or waits in the buffer without hole
    behind   something may be missing: the buffer is empty, and the stream is read from the cursor

A follower begins behind. Reading makes it level: whatever is published from then on is buffered,
and what the read and the buffer both hold is given out once.

It reads *inclusive* of its cursor, and what stands there must be the very record it knows:

    known        1 2 3 4 5│6 7│        Redis lost 6 and 7. What others write there now is not what
    stands now   1 2 3 4 5│8 9│10      this client was given: it would see 10, and never 8 and 9.
                            ▲ cursor

Failures
    Nothing at the cursor    The stream is shorter than it was. The archive restores it and workers
                             repeat what they said: read again, REWOUND_SECONDS_MAX long.
    Another record there,    The stream is *rewound*: the follower ends, and its client comes back
    or nothing for so long   with its cursor. A job's is a seq, which holds where positions moved.
    Stores away              Read again every RETRY_SECONDS.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from services.api.pages import Pages
from services.api.wake import Wake
from shared.codec import Record
from shared.errors import ArchiveUnavailable, EventsGone, LogUnavailable
from shared.observability import get_logger
from shared.signals import Signal
from shared.thread_stream import HoleInStream, Page, ThreadStream

BUFFER_BYTES_MAX: Final = 128 * 1024  # published, and not yet taken by a slow client
SIGNALS_MAX: Final = 64  # heard and not yet taken; of more the oldest are dropped
RETRY_SECONDS: Final = 0.5
REWOUND_SECONDS_MAX: Final = 5.0  # for what was lost to come back

log = get_logger()

Wanted = Callable[[Record], bool]


class Follower:
    """Yields a thread's records behind a cursor, in order, each once."""

    __slots__ = (
        "_behind",
        "_buffer",
        "_buffered_bytes",
        "_idle",
        "_last",
        "_listens",
        "_missing_since",
        "_pages",
        "_ping_due",
        "_reading",
        "_signals",
        "_wake",
        "_wanted",
        "cursor",
        "ended",
        "thread_id",
    )

    def __init__(
        self,
        history: ThreadStream,
        thread_id: str,
        *,
        after: int | None,
        wanted: Wanted | None = None,
        hears: bool = False,
    ) -> None:
        """With ``after`` None it listens, and gives out nothing until it is told to ``begin``."""
        self._pages = Pages(history, thread_id)
        self._signals: deque[Signal] | None = deque(maxlen=SIGNALS_MAX) if hears else None
        self._wanted = wanted
        self.thread_id = thread_id
        self._listens = after is None
        self.cursor = after or 0  # the position of the last record given out or passed over
        self.ended = False
        self._last: Record | None = None  # what stands at the cursor, once that is known
        self._missing_since: float | None = None
        self._behind = True
        self._buffer: list[Record] = []
        self._buffered_bytes = 0
        self._idle = self._ping_due = False
        self._wake = Wake()
        self._reading: asyncio.Timeout | None = None

    @property
    def is_level(self) -> bool:
        """Whether the cursor tells how far this follower knows the thread."""
        return not (self._behind or self._buffer or self._listens)

    def begin(self, after: int, wanted: Wanted) -> None:
        """Give out what was written behind a position since this one listens."""
        self.cursor, self._wanted, self._listens = after, wanted, False

    async def next(self) -> list[Record]:
        """The next records; empty for a ping, for signals that wait, and at the end (ended).

        Waits while there is nothing, and while the stores are away.
        """
        while not self.ended:
            self._wake.clear()
            if self._ping_due:
                self._ping_due = False
                return []
            if self._signals:
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

    def take_signals(self) -> list[Signal]:
        """What was heard since the last look."""
        if not self._signals:
            return []
        heard = list(self._signals)
        self._signals.clear()
        return heard

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

    def signal(self, signal: Signal) -> None:
        if self._signals is not None:
            self._signals.append(signal)
            self._wake.set()

    def confirm(self) -> None:
        """A subscription begins. What was published before was not heard, but whoever only listens
        is not to give that out."""
        self.fall_behind()
        self._behind = not self._listens

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
        if self.ended:
            return
        self.ended = True
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
            if self._contradicts(records):
                self.fall_behind()
                return []
            records = [record for record in records if record.position > self.cursor]
        if not records:
            return []
        if records[0].position != self.cursor + 1:
            self.fall_behind()
            return []
        self._go_to(records[-1])
        return records

    def _contradicts(self, records: list[Record]) -> bool:
        """Whether another record stands at the cursor than the one that is known to."""
        here = next((record for record in records if record.position == self.cursor), None)
        return here is not None and self._last is not None and here != self._last

    def _go_to(self, record: Record) -> None:
        self.cursor, self._last = record.position, record

    async def _catch_up(self) -> list[Record]:
        self._behind = False  # before reading: whatever comes meanwhile counts
        try:
            records, more = await self._read_until_end()
        except TimeoutError:
            self._behind = True
            return []
        except EventsGone:
            self._end_rewound("what stands behind the cursor is kept no longer")
            return []
        except (LogUnavailable, ArchiveUnavailable, HoleInStream) as error:
            self._missing_since = None
            await self._wait_for_stores(str(error))
            return []
        if self.cursor and not await self._stands(records):
            return []
        if more:
            self.fall_behind()
        if self.cursor:
            records = records[1:]
        if records:
            self._go_to(records[-1])
        return records

    async def _read_until_end(self) -> Page:
        """Raises TimeoutError once ``end`` is called."""
        async with asyncio.timeout(None) as self._reading:
            try:
                return await self._pages.read(self.cursor, self._last)
            finally:
                self._reading = None  # it is over: to reschedule it would be an error

    async def _stands(self, records: list[Record]) -> bool:
        """Whether the record at the cursor is there, and is the one that is known."""
        if not records:
            return await self._wait_for_the_lost()
        self._missing_since = None
        if self._contradicts(records):
            self._end_rewound("another record stands at the cursor")
            return False
        self._last = records[0]
        return True

    async def _wait_for_the_lost(self) -> bool:
        self._missing_since = self._missing_since or time.monotonic()
        if time.monotonic() - self._missing_since < REWOUND_SECONDS_MAX:
            await self._wait_for_stores("nothing stands at the cursor")
        else:
            self._end_rewound("nothing stands at the cursor")
        return False

    def _end_rewound(self, reason: str) -> None:
        log.warning("stream rewound", thread_id=self.thread_id, cursor=self.cursor, reason=reason)
        self.end()

    async def _wait_for_stores(self, reason: str) -> None:
        log.warning("follower waits for the stores", thread_id=self.thread_id, reason=reason)
        self._behind = True
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return
