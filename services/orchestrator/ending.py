"""The ways a job ends: each appends one ``done``, which is in the log when the call returns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from services.orchestrator.job_writer import JobWriter
from services.orchestrator.model import Completion
from shared.commands import RunJob
from shared.events import ErrorRaised, FinalStatus, Usage
from shared.observability import get_logger

log = get_logger()


@dataclass(frozen=True, slots=True)
class Failure:
    """What the ``error`` event says: ``code`` is stable, ``message`` for people."""

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
        await self._done(
            "done", self._writer.text, finish_reason=completion.finish_reason, usage=usage
        )

    async def cancelled(self, *, text: str | None = None) -> None:
        """``text`` is what an earlier attempt said, if this one has not begun."""
        await self._done("cancelled", self._writer.text if text is None else text)

    async def failed(
        self, failure: Failure, *, text: str | None = None, given_up: bool = False
    ) -> None:
        """``given_up``: no attempt is left, so the job is listed as dead."""
        self._writer.add(
            ErrorRaised, code=failure.code, message=failure.message, retryable=failure.retryable
        )
        text = self._writer.text if text is None else text
        await self._done("failed", text, dead_reason=failure.code if given_up else "")

    async def _done(
        self,
        status: FinalStatus,
        content: str,
        *,
        finish_reason: str | None = None,
        usage: Usage | None = None,
        dead_reason: str = "",
    ) -> None:
        since = datetime.now(UTC) - datetime.fromisoformat(self._command.at)
        latency_ms = max(0, round(since.total_seconds() * 1000))
        await self._writer.finish(
            status,
            content=content,
            message_id=self._command.reply_id,
            finish_reason=finish_reason,
            usage=usage,
            latency_ms=latency_ms,
            dead_reason=dead_reason,
        )
        log.info("job ended", status=status, chars=len(content), latency_ms=latency_ms)
