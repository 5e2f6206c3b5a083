"""The token path's last step: text on its way into the log, committed in groups.

Every running attempt has a ``JobWriter``. Tokens are written into it without waiting; one loop for
the whole worker collects what all writers hold and sends it in a single round trip:

    model ─▶ writer A ─┐                         ┌─▶ append_events(A: token, token, done)
    model ─▶ writer B ─┼─ while a round trip ──▶ ├─▶ append_events(B: token)
    model ─▶ writer C ─┘  is under way, wait     └─▶ append_events(C: token)

So the first token goes at once, later ones as soon as the previous append has returned, and a slow
moment makes bigger groups, never a longer queue: text that waits together becomes one ``token``
event, whose ``deltas`` says how many pieces it joins.

Failures
    Redis away, reply lost   The same events are sent again, with what came since behind them; the
                             script skips those it has. Once PENDING_CHARS_MAX wait, ``room``
                             holds the reader of the model back.
    Redis lost a tail (GAP)  Every event of the attempt is kept until it ends: the writer goes back
                             to the seq it is told.
    FENCED                   Superseded, or Redis has lost the attempt's beginning: the writer asks
                             to resume it, and if that is refused its job is told to stop.
    UNKNOWN                  Redis has lost the job: the writer is closed and its job told so.
    An append that can never succeed costs its own job the attempt; the others' go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

from shared.codec import encode
from shared.errors import LogUnavailable
from shared.event_log import Append, Appended, EventLog, Lease, NumberedEvent
from shared.events import Done, FinalStatus, JobEvent, Token
from shared.observability import get_logger
from shared.times import utc_now

PENDING_CHARS_MAX: Final = 64 * 1024  # per job, before the model's stream is no longer read
EVENTS_PER_APPEND_MAX: Final = 256  # 9 + 3 × 256 arguments: far from Lua's limit on unpack
APPENDS_PER_ROUND_MAX: Final = 256
RETRY_SECONDS: Final = 0.25

log = get_logger()


class Stop(Enum):
    """Why an attempt is to end before its answer does."""

    CANCEL = auto()  # a user asked
    LOST = auto()  # another worker has the job, or may have
    FORGOTTEN = auto()  # Redis has lost the job altogether
    REWOUND = auto()  # Redis has lost the attempt's beginning: not yet an end, but a doubt
    HAND_OVER = auto()  # this worker leaves


class LeaseLost(Exception):
    """The attempt has been superseded: nothing of it may be written any more."""


class JobForgotten(LeaseLost):
    """Redis does not know the job any more, nor anybody who has it."""


class JobWriter:
    """What one attempt says, from the first event after ``started`` on."""

    def __init__(
        self, lease: Lease, *, mark: Callable[[JobWriter], None], stop: Callable[[Stop], None]
    ) -> None:
        self.lease = lease
        self._mark, self._stop = mark, stop
        self._events: list[NumberedEvent] = []
        self._settled = 0  # how many of the events are known to be in the log
        self._said: list[str] = []  # the content of the token events
        self._waiting: list[str] = []  # content that is in no event yet
        self._waiting_chars = self._waiting_deltas = 0
        self._final: FinalStatus | None = None
        self._dead_reason = ""
        self._lost: type[LeaseLost] | None = None
        self.contested = False  # whether the attempt is still this worker's must be asked
        self._changed = asyncio.Event()

    @property
    def text(self) -> str:
        """All content of the attempt."""
        return "".join((*self._said, *self._waiting))

    @property
    def has_text(self) -> bool:
        return bool(self._said or self._waiting)

    def token(self, content: str, deltas: int) -> None:
        """Add text. Never waits: ask for ``room`` between reads."""
        self._waiting.append(content)
        self._waiting_chars += len(content)
        self._waiting_deltas += deltas
        self._mark(self)

    async def room(self) -> None:
        """Return once little enough is waiting. Raises LeaseLost."""
        await self._until(lambda: self._waiting_chars <= PENDING_CHARS_MAX)

    def add(self, event_type: type[JobEvent], **fields: Any) -> None:
        """Say an event behind everything said so far; its head is filled in here."""
        self._seal()
        seq = self.lease.seq + len(self._events) + 1
        event = event_type(
            job_id=self.lease.job_id, seq=seq, attempt=self.lease.attempt, at=utc_now(), **fields
        )
        self._events.append(NumberedEvent(seq, event.type, encode(event)))
        self._mark(self)

    async def finish(self, status: FinalStatus, *, dead_reason: str = "", **fields: Any) -> None:
        """Say ``done``, and return when it is in the log. Raises LeaseLost."""
        self._final, self._dead_reason = status, dead_reason
        self.add(Done, status=status, **fields)
        await self.flushed()

    async def flushed(self) -> None:
        """Return when everything said so far is in the log. Raises LeaseLost."""
        await self._until(lambda: not self._has_more)

    def take(self) -> Append | None:
        """The next append, or None when nothing waits. Taken again after a failed round trip."""
        if not self._has_more:
            return None
        if self._settled == len(self._events):
            self._seal()
        events = self._events[self._settled : self._settled + EVENTS_PER_APPEND_MAX]
        if events[-1].type != "done":
            return Append(self.lease, events)
        return Append(self.lease, events, self._final, self._dead_reason)

    def settle(self, reply: Appended, *, asked: bool = False) -> None:
        """Take note of an answer: to an append, or, if that was ``asked``, whose the attempt is.

        An append may be fenced while the heartbeat has just contested the attempt: that is not yet
        the answer.
        """
        if reply.code == "FENCED" and not asked:
            self.contest()
            return
        self.contested = False
        self._settled = reply.last_seq - self.lease.seq
        if reply.code == "UNKNOWN":
            self.lose(JobForgotten)
            self._stop(Stop.FORGOTTEN)
        elif reply.code == "FENCED" or not 0 <= self._settled <= len(self._events):
            self.lose()
            self._stop(Stop.LOST)
        elif reply.cancel:
            self._stop(Stop.CANCEL)
        if self._has_more:
            self._mark(self)
        self._changed.set()

    def refuse(self, error: Exception) -> None:
        """Take note of an append that Redis will never take: the attempt cannot go on."""
        log.error("append refused", job_id=self.lease.job_id, reason=str(error))
        self.lose()
        self._stop(Stop.LOST)

    def contest(self) -> None:
        """Ask for the attempt before writing on."""
        self.contested = not self._lost
        self._mark(self)

    def lose(self, reason: type[LeaseLost] = LeaseLost) -> None:
        """Write nothing more: whoever waits for the log gets the (first) reason."""
        self._lost, self.contested = self._lost or reason, False
        self._changed.set()

    @property
    def _has_more(self) -> bool:
        return not self._lost and bool(self._waiting or self._settled < len(self._events))

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not self._lost and not holds():
            self._changed.clear()
            await self._changed.wait()
        if self._lost:
            raise self._lost()

    def _seal(self) -> None:
        """Make one event of the text that waits."""
        if self._waiting:
            content, deltas = "".join(self._waiting), self._waiting_deltas
            self._said.append(content)
            self._waiting.clear()
            self._waiting_chars = self._waiting_deltas = 0
            self.add(Token, content=content, deltas=deltas)


class Appender:
    """The one loop that carries all writers' events into the log."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._marked: dict[JobWriter, None] = {}  # an ordered set: first come, first written
        self._put_off: set[JobWriter] = set()
        self._wake = asyncio.Event()

    def open(self, lease: Lease, *, stop: Callable[[Stop], None]) -> JobWriter:
        """A writer, which calls ``stop`` when the attempt must end."""
        return JobWriter(lease, mark=self._mark, stop=stop)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            writers = list(self._marked)[:APPENDS_PER_ROUND_MAX]
            for writer in writers:
                del self._marked[writer]
            if self._marked:
                self._wake.set()
            await self._round(writers)

    async def _round(self, writers: list[JobWriter]) -> None:
        contested = [writer for writer in writers if writer.contested]
        await self._append([writer for writer in writers if not writer.contested])
        for writer in contested:
            await self._resume(writer)

    async def _resume(self, writer: JobWriter) -> None:
        try:
            reply = await self._log.resume_attempt(writer.lease)
        except LogUnavailable as error:
            self._put_off_for(error, writer)
        else:
            log.warning("attempt contested", job_id=writer.lease.job_id, outcome=reply.code)
            writer.settle(reply, asked=True)

    async def _append(self, writers: list[JobWriter]) -> None:
        taken = [(writer, append) for writer in writers if (append := writer.take())]
        if not taken:
            return
        try:
            replies = await self._log.append_many([append for _, append in taken])
        except LogUnavailable as error:
            replies = [error] * len(taken)
        for (writer, _), reply in zip(taken, replies, strict=True):
            if isinstance(reply, Appended):
                writer.settle(reply)
            elif isinstance(reply, LogUnavailable):
                self._put_off_for(reply, writer)
            else:
                writer.refuse(reply)

    def _put_off_for(self, error: LogUnavailable, writer: JobWriter) -> None:
        log.warning("append put off", job_id=writer.lease.job_id, reason=str(error))
        self._put_off.add(writer)
        self._marked.pop(writer, None)  # text that came while the append was under way
        asyncio.get_running_loop().call_later(RETRY_SECONDS, self._try_again, writer)

    def _try_again(self, writer: JobWriter) -> None:
        self._put_off.discard(writer)
        self._mark(writer)

    def _mark(self, writer: JobWriter) -> None:
        if writer not in self._put_off:
            self._marked[writer] = None
            self._wake.set()
