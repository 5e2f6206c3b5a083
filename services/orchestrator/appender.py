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
                             script skips those it has. Once PENDING_CHARS_MAX wait, ``room()``
                             holds the reader of the model back.
    Redis lost a tail (GAP)  Every event of the attempt is kept until it ends: the writer goes back
                             to the seq it is told. If even ``started`` is gone, the attempt is lost.
    Superseded (FENCED)      The writer is closed and tells its job, which stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from shared.codec import encode
from shared.errors import LogUnavailable
from shared.event_log import Append, Appended, EventLog, Lease, NumberedEvent
from shared.events import Done, ErrorRaised, FinalStatus, Token, utc_now
from shared.observability import get_logger

PENDING_CHARS_MAX: Final = 64 * 1024  # per job, before the model's stream is no longer read
EVENTS_PER_APPEND_MAX: Final = 256  # 9 + 3 × 256 arguments: far from Lua's limit on unpack
APPENDS_PER_ROUND_MAX: Final = 256
RETRY_SECONDS: Final = 0.05
RETRY_SECONDS_MAX: Final = 1.0

log = get_logger()


class LeaseLost(Exception):  # noqa: N818 -- a signal, not a failure
    """The attempt has been superseded: nothing of it may be written any more."""


class JobWriter:
    """What one attempt has said, from the first event after ``started`` on."""

    def __init__(
        self, lease: Lease, *, mark: Callable[[JobWriter], None], on_cancel: Callable[[], None]
    ) -> None:
        self.lease = lease
        self._mark, self._on_cancel = mark, on_cancel
        self._events: list[NumberedEvent] = []
        self._settled = 0  # how many of the events are known to be in the log
        self._text: list[str] = []  # all content of the attempt
        self._waiting: list[str] = []  # content that is in no event yet
        self._waiting_chars = self._waiting_deltas = 0
        self._final: FinalStatus | None = None
        self._dead_reason = ""
        self._lost = False
        self._changed = asyncio.Event()

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def has_text(self) -> bool:
        return bool(self._text)

    def token(self, content: str, deltas: int) -> None:
        """Add text. Never waits: ask ``room()`` between reads."""
        self._text.append(content)
        self._waiting.append(content)
        self._waiting_chars += len(content)
        self._waiting_deltas += deltas
        self._mark(self)

    async def room(self) -> None:
        """Return once little enough is waiting. Raises LeaseLost."""
        while self._waiting_chars > PENDING_CHARS_MAX and not self._lost:
            self._changed.clear()
            await self._changed.wait()
        if self._lost:
            raise LeaseLost()

    async def fail(self, code: str, message: str, *, retryable: bool) -> None:
        """Append ``error``: why the ``done`` that follows is a failure."""
        self._seal()
        event = ErrorRaised(
            **self._head(), code=code, message=message, retryable=retryable, at=utc_now()
        )
        self._add("error", encode(event))

    async def finish(self, done: Done, *, dead_reason: str = "") -> None:
        """Append ``done`` behind everything said, and return when it is in the log.

        The caller fills in everything but seq and attempt. Raises LeaseLost.
        """
        self._seal()
        self._final, self._dead_reason = done.status, dead_reason
        self._add("done", encode(done.model_copy(update=self._head())))
        await self.flushed()

    async def flushed(self) -> None:
        """Return when everything said so far is in the log. Raises LeaseLost."""
        while (self._waiting or self._settled < len(self._events)) and not self._lost:
            self._changed.clear()
            await self._changed.wait()
        if self._lost:
            raise LeaseLost()

    def take(self) -> Append | None:
        """The next append, or None when nothing waits. Taken again after a failed round trip."""
        if self._lost:
            return None
        if self._settled == len(self._events):
            self._seal()
        events = self._events[self._settled : self._settled + EVENTS_PER_APPEND_MAX]
        if not events:
            return None
        ends = events[-1].type == "done"
        return Append(
            self.lease, events, self._final if ends else None, self._dead_reason if ends else ""
        )

    def settle(self, reply: Appended) -> None:
        """Take note of an answer."""
        if reply.code in ("OK", "DUPLICATE", "GAP"):
            self._settled = reply.last_seq - self.lease.seq
            self._lost = self._settled < 0  # Redis does not even have `started`
        else:
            self._lost = True
        if reply.cancel:
            self._on_cancel()
        if self.has_more:
            self._mark(self)
        self._changed.set()

    @property
    def has_more(self) -> bool:
        return not self._lost and bool(self._waiting or self._settled < len(self._events))

    def lose(self) -> None:
        """The lease is gone: write nothing more."""
        self._lost = True
        self._changed.set()

    def _head(self) -> dict[str, str | int]:
        seq = self.lease.seq + len(self._events) + 1
        return {"job_id": self.lease.job_id, "seq": seq, "attempt": self.lease.attempt}

    def _seal(self) -> None:
        """Make one event of the text that waits."""
        if not self._waiting:
            return
        content, deltas = "".join(self._waiting), self._waiting_deltas
        self._waiting.clear()
        self._waiting_chars = self._waiting_deltas = 0
        event = Token(**self._head(), at=utc_now(), content=content, deltas=deltas)
        self._add("token", encode(event))

    def _add(self, kind: str, data: bytes) -> None:
        seq = self.lease.seq + len(self._events) + 1
        self._events.append(NumberedEvent(seq, kind, data))
        self._mark(self)


class Appender:
    """The one loop that carries all writers' events into the log."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._marked: dict[JobWriter, None] = {}  # an ordered set: first come, first written
        self._wake = asyncio.Event()

    def open(self, lease: Lease, *, on_cancel: Callable[[], None]) -> JobWriter:
        return JobWriter(lease, mark=self._mark, on_cancel=on_cancel)

    async def run(self) -> None:
        """Until cancelled."""
        pause = RETRY_SECONDS
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._round()
                pause = RETRY_SECONDS
            except LogUnavailable as error:
                log.warning("append failed, will try again", reason=str(error), pause=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_SECONDS_MAX)
                self._wake.set()

    def _mark(self, writer: JobWriter) -> None:
        self._marked[writer] = None
        self._wake.set()

    async def _round(self) -> None:
        writers = list(self._marked)[:APPENDS_PER_ROUND_MAX]
        for writer in writers:
            del self._marked[writer]
        taken = [(writer, append) for writer in writers if (append := writer.take())]
        if self._marked:
            self._wake.set()
        if not taken:
            return
        try:
            replies = await self._log.append_many([append for _, append in taken])
        except LogUnavailable:
            self._marked.update(dict.fromkeys(writer for writer, _ in taken))
            raise
        refused: list[Exception] = []
        for (writer, _), reply in zip(taken, replies, strict=True):
            if isinstance(reply, Exception):
                self._marked[writer] = None
                refused.append(reply)
            else:
                writer.settle(reply)
        if refused:
            raise LogUnavailable(f"Redis refused {len(refused)} appends: {refused[0]}")
