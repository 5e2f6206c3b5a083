"""What clients ask for through a WebSocket: the same use cases as over HTTP, the same refusals."""

from __future__ import annotations

from dataclasses import dataclass

from services.api.authentication import Caller
from services.api.client_frames import BadFrame, CancelFrame, FileFrame, MessageFrame, posted
from services.api.frames import accepted_frame, error_frame
from services.api.jobs import JobsOfUser
from services.api.post_message import Asking, Question, idempotency_of
from services.api.problems import BadRequest, Told, TooManyRequests, told_of
from services.api.request_limits import RequestLimits, retry_seconds
from shared.errors import HeadwaterError

Request = MessageFrame | FileFrame | CancelFrame


@dataclass(frozen=True, slots=True)
class Visit:
    """Whose socket it is, on which thread, from where."""

    caller: Caller
    session_id: str
    socket_id: str
    thread_id: str
    host: str | None


class SocketRequests:
    def __init__(self, asking: Asking, jobs: JobsOfUser, limits: RequestLimits) -> None:
        self._asking, self._jobs, self._limits = asking, jobs, limits

    async def answer(self, visit: Visit, frame: Request) -> bytes:
        """The frame that says what became of a client's. Raises what is a defect."""
        try:
            await self.count(visit)
            return await self._done(visit, frame)
        except BadFrame as bad:
            return error_frame(frame.id, bad.told)
        except (HeadwaterError, BadRequest, TooManyRequests) as error:
            return error_frame(frame.id, refusal_of(error))

    async def count(self, visit: Visit) -> None:
        """A frame that asks for something is a request. Raises TooManyRequests."""
        standings = await self._limits.count(user=visit.caller.user, host=visit.host)
        seconds = retry_seconds(standings)
        if seconds is not None:
            raise TooManyRequests(seconds, {})

    async def _done(self, visit: Visit, frame: Request) -> bytes:
        if isinstance(frame, CancelFrame):
            return await self._cancel(visit, frame)
        return await self._ask(visit, frame)

    async def _ask(self, visit: Visit, frame: MessageFrame | FileFrame) -> bytes:
        body = posted(frame)
        question = Question(
            body.content,
            visit.thread_id,
            body.agent,
            body.metadata,
            body.on_busy,
            body.replaces,
            body.attachments,
        )
        named = idempotency_of(frame.id, "post_message", body, thread_id=visit.thread_id)
        accepted = await self._asking.ask(visit.caller, question, named)
        return accepted_frame(
            frame.id,
            message_id=accepted.message_id,
            job_id=accepted.job_id,
            trace_id=accepted.trace_id,
            status="queued",
        )

    async def _cancel(self, visit: Visit, frame: CancelFrame) -> bytes:
        caller, thread_id = visit.caller, visit.thread_id
        if frame.job_id is None:
            statuses = await self._jobs.cancel_session(caller, thread_id)
        else:
            status = await self._jobs.cancel_in(caller.user, thread_id, frame.job_id)
            statuses = {frame.job_id: status}
        jobs = [{"job_id": job_id, "status": status} for job_id, status in statuses.items()]
        return accepted_frame(frame.id, jobs=jobs)


def refusal_of(error: Exception) -> Told:
    """What a client is told of an error that is no defect; raises one that is."""
    told = told_of(error)
    if told is None:
        raise error
    return told
