"""What one attempt says, from its first token to its ``done``, and how much of it is in the log.

    token, add ──▶ waiting text ── sealed ──▶ events ──▶ settled
                                                │            ▲
                                                └─ take ─────┘  the appender's round trips

Text that waits together becomes one ``token`` event; its ``deltas`` tells how many pieces it joins.
Every event is kept until the attempt ends, for Redis may lose some and ask for them again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

from shared.codec import encode, encode_token
from shared.event_log import Append, Appended, Lease, NumberedEvent
from shared.events import Done, FinalStatus, JobEvent
from shared.observability import get_logger
from shared.times import utc_now

PENDING_CHARS_MAX: Final = 64 * 1024  # per job, before the model's stream is no longer read
EVENTS_PER_APPEND_MAX: Final = 256  # 9 + 3 × 256 arguments: far from Lua's limit on unpack
HOLD_SECONDS: Final = 0.038  # text may wait for what follows it; longer would be seen

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
        self._heard_at = self._gap_seconds = 0.0  # of the model's last piece; to the one before
        self._changed = asyncio.Event()

    @property
    def text(self) -> str:
        """All content of the attempt."""
        return "".join((*self._said, *self._waiting))

    @property
    def has_text(self) -> bool:
        return bool(self._said or self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether to wait for ``room`` before more is said."""
        return self._lost is not None or self._waiting_chars > PENDING_CHARS_MAX

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for more than the next piece of a text that flows."""
        return not self._said or self._settled < len(self._events) or self.contested

    @property
    def may_wait(self) -> bool:
        """Whether one piece of text waits, and another is about to come."""
        flows = len(self._waiting) == 1 and self._gap_seconds < HOLD_SECONDS
        return flows and not self.is_urgent

    def token(self, content: str, deltas: int) -> None:
        """Add text. Never waits: ask for ``room`` when it ``is_full``."""
        now = time.monotonic()
        self._gap_seconds, self._heard_at = now - self._heard_at, now
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
            lease, seq = self.lease, self.lease.seq + len(self._events) + 1
            token = encode_token(
                lease.job_id, seq, lease.attempt, at=utc_now(), content=content, deltas=deltas
            )
            self._events.append(NumberedEvent(seq, "token", token))
