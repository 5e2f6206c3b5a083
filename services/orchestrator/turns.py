"""Whose turn it is to be written into the log.

    at leisure    whoever has something to say, as soon as the round before has returned
    busy          a round every ROUND_SECONDS, or at once for whoever is urgent. A job whose model
                  has said one piece, and goes on at a pace, is not written until the next piece
                  has come, or HOLD_SECONDS have passed

An append costs every part behind it the same whether it brings one piece of text or two: of 256
answers at 30 tokens a second half of the system's work is per append. So a worker that hears
more than BUSY_PIECES_PER_SECOND gives away a moment that no reader sees. One with less to do has
the time to write each piece at once.

Failures
    The model stops amid its text   What is held is written HOLD_SECONDS later.
    Redis away                      Who was put off is passed over until its time has come, whatever
                                    else it has to say.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from services.orchestrator.job_writer import HOLD_SECONDS, JobWriter

APPENDS_PER_ROUND_MAX: Final = 256
BUSY_PIECES_PER_SECOND: Final = 2000
LOOK_SECONDS: Final = 0.25  # between two looks at how busy it is
ROUND_SECONDS: Final = 0.005  # between two rounds of a busy worker


class Turns:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._due: dict[JobWriter, None] = {}  # an ordered set: first come, first written
        self._held: dict[JobWriter, float] = {}  # until when, which rises
        self._put_off = set[JobWriter]()
        self._wake = asyncio.Event()
        self._tick: asyncio.TimerHandle | None = None
        self._is_busy = False
        self._pieces, self._look_at = 0, 0.0

    async def next(self) -> list[JobWriter]:
        """Those whose turn it is, APPENDS_PER_ROUND_MAX at most; waits until there is one."""
        await self._wake.wait()
        self._wake.clear()
        writers = list(self._due)[:APPENDS_PER_ROUND_MAX]
        for writer in writers:
            del self._due[writer]
        if self._due:
            self._wake.set()
        return writers

    def mark(self, writer: JobWriter) -> None:
        """It has something to say."""
        if writer in self._put_off:
            return
        now = time.monotonic()
        self._count(now)
        if self._is_busy and not writer.is_urgent:
            self._take_up(writer, now)
        else:
            self._held.pop(writer, None)
            self._due[writer] = None
            self._wake.set()

    def put_off(self, writer: JobWriter, seconds: float) -> None:
        """It has no turn for so long."""
        self._put_off.add(writer)
        self._due.pop(writer, None)  # text that came while the append was under way
        self._held.pop(writer, None)
        asyncio.get_running_loop().call_later(seconds, self._try_again, writer)

    def _try_again(self, writer: JobWriter) -> None:
        self._put_off.discard(writer)
        self.mark(writer)

    def _count(self, now: float) -> None:
        self._pieces += 1
        if now > self._look_at:
            self._is_busy = self._pieces > BUSY_PIECES_PER_SECOND * LOOK_SECONDS
            self._pieces, self._look_at = 0, now + LOOK_SECONDS

    def _take_up(self, writer: JobWriter, now: float) -> None:
        if writer.may_wait:
            self._held.setdefault(writer, now + HOLD_SECONDS)
        else:
            self._held.pop(writer, None)
            self._due[writer] = None
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(ROUND_SECONDS, self._release)

    def _release(self) -> None:
        """The next round of a busy worker."""
        self._tick = None
        now = time.monotonic()
        while self._held:
            writer, until = next(iter(self._held.items()))
            if until > now:
                self._tick = asyncio.get_running_loop().call_later(ROUND_SECONDS, self._release)
                break
            del self._held[writer]
            self._due[writer] = None
        if self._due:
            self._wake.set()
