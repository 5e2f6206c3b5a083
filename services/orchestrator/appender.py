"""The token path's last step: text on its way into the log, committed in groups.

Every running attempt has a ``JobWriter``. Tokens are written into it without waiting; one loop for
the whole worker collects what all writers hold and sends it in a single round trip:

    model ─▶ writer A ─┐                         ┌─▶ append_events(A: token, token, done)
    model ─▶ writer B ─┼─ while a round trip ──▶ ├─▶ append_events(B: token)
    model ─▶ writer C ─┘  is under way, wait     └─▶ append_events(C: token)

So the first token goes at once, later ones as soon as the previous append has returned, and a slow
moment makes bigger groups, never a longer queue. A worker to which much is said lets text wait a
moment for what follows it (``turns``).

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

from collections.abc import Callable
from typing import Final

from services.orchestrator.job_writer import JobWriter, Stop
from services.orchestrator.turns import Turns
from shared.errors import LogUnavailable
from shared.event_log import Appended, EventLog, Lease
from shared.observability import get_logger

RETRY_SECONDS: Final = 0.25

log = get_logger()


class Appender:
    """The one loop that carries all writers' events into the log."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._turns = Turns()

    def open(self, lease: Lease, *, stop: Callable[[Stop], None]) -> JobWriter:
        """A writer, which calls ``stop`` when the attempt must end."""
        return JobWriter(lease, mark=self._turns.mark, stop=stop)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._round(await self._turns.next())

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
        self._turns.put_off(writer, RETRY_SECONDS)
