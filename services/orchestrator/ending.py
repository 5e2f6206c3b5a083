"""The ways a job ends: each appends one ``done``, which is in the log when the call returns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from services.orchestrator.appender import JobWriter
from services.orchestrator.model import Completion
from shared.commands import RunJob
from shared.events import Done, FinalStatus, Usage, utc_now
from shared.observability import get_logger

log = get_logger()


@dataclass(frozen=True, slots=True)
class Failure:
    """What the ``error`` event will say if no attempt is left."""

    code: str
    message: str
    retryable: bool


EXHAUSTED: Final = Failure(
    "attempts_exhausted", "every attempt at this job ended before its answer did", retryable=True
)


class Ending:
    """Raises LeaseLost from every method: another worker has the job."""

    def __init__(self, writer: JobWriter, command: RunJob) -> None:
        self._writer = writer
        self._command = command

    async def answered(self, completion: Completion) -> None:
        counted = completion.usage
        usage = counted and Usage(
            prompt_tokens=counted.prompt_tokens,
            completion_tokens=counted.completion_tokens,
            total_tokens=counted.total_tokens,
        )
        await self._done("done", self._writer.text, completion.finish_reason, usage)

    async def cancelled(self) -> None:
        await self._done("cancelled", self._writer.text)

    async def failed(self, failure: Failure, *, text: str | None = None, dead: str = "") -> None:
        await self._writer.fail(failure.code, failure.message, retryable=failure.retryable)
        text = self._writer.text if text is None else text
        await self._done("failed", text, dead=dead)

    async def of_unrun(self, cancelled: bool, text: str, failure: Failure) -> None:
        """End a job that is owned but not run, with what its last attempt had said."""
        if cancelled:
            await self._done("cancelled", text)
        else:
            await self.failed(failure, text=text, dead=failure.code)

    async def _done(
        self,
        status: FinalStatus,
        content: str,
        finish_reason: str | None = None,
        usage: Usage | None = None,
        dead: str = "",
    ) -> None:
        since = datetime.now(UTC) - datetime.fromisoformat(self._command.at)
        done = Done(
            job_id=self._command.job_id,
            seq=1,
            attempt=0,  # both are filled in by the writer
            at=utc_now(),
            status=status,
            content=content,
            message_id=self._command.reply_id,
            finish_reason=finish_reason,
            usage=usage,
            latency_ms=max(0, round(since.total_seconds() * 1000)),
        )
        await self._writer.finish(done, dead_reason=dead)
        log.info("job ended", status=status, chars=len(content), latency_ms=done.latency_ms)
