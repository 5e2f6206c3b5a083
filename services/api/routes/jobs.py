"""/v1/jobs"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidation

from services.api.cursors import event_cursor
from services.api.feed import Feed
from services.api.jobs import PAGE_EVENTS_MAX, JobsOfUser, check_cursor
from services.api.post_message import Asking, idempotency_of
from services.api.routes.answers import answer_of
from services.api.routes.threads import IdempotencyKey, LastEventId, Optional
from services.api.schemas import (
    AcceptedView,
    CreateJob,
    JobErrorView,
    JobStatusView,
    JobView,
)
from services.api.sse import event_stream, job_stream
from shared.codec import decode_event, json_page
from shared.events import Done, ErrorRaised
from shared.hot_state import Job

EventLimit = Annotated[int, QueryParameter(ge=1, le=PAGE_EVENTS_MAX)]
EventFormat = Annotated[Literal["sse", "json"], QueryParameter(name="format")]


@post(
    "/v1/jobs",
    status_code=202,
    summary="Ask a question, in a new thread if none is named",
    responses={202: ResponseSpec(AcceptedView, generate_examples=False)},
)
async def create_job(
    request: Request[Any, Any, Any],
    data: JSONBody[CreateJob],
    asking: NamedDependency[SkipValidation[Asking]],
    jobs: NamedDependency[SkipValidation[JobsOfUser]],
    feed: NamedDependency[SkipValidation[Feed]],
    idempotency_key: IdempotencyKey,
) -> Response[Any]:
    accepted = await asking.ask(
        request.user,
        data.query,
        thread_id=data.thread_id,
        agent=data.agent,
        metadata=data.metadata,
        on_busy=data.on_busy,
        idempotency=idempotency_of(idempotency_key, "create_job", data),
    )
    return await answer_of(request.user.user, accepted, jobs, feed, stream=data.stream)


@get("/v1/jobs/{job_id:str}", summary="Get a job")
async def get_job(
    request: Request[Any, Any, Any],
    job_id: FromPath[str],
    jobs: NamedDependency[SkipValidation[JobsOfUser]],
) -> JobView:
    job = await jobs.get(request.user.user, job_id)
    failure = await jobs.failure(job)
    return view_of(job, decode_event(failure.data) if failure else None)


@get(
    "/v1/jobs/{job_id:str}/events",
    summary="Follow a job by Server-Sent Events, or read a page of its events",
)
async def job_events(
    request: Request[Any, Any, Any],
    job_id: FromPath[str],
    jobs: NamedDependency[SkipValidation[JobsOfUser]],
    feed: NamedDependency[SkipValidation[Feed]],
    last_event_id: LastEventId,
    after: Optional,
    event_format: EventFormat = "sse",
    limit: EventLimit = 500,
) -> Response[Any]:
    seq = event_cursor(last_event_id, after)
    job = await jobs.get(request.user.user, job_id)
    check_cursor(job, seq)
    if event_format == "sse":
        return event_stream(job_stream(feed, job, after=seq))
    records = await jobs.page(job, after=seq, limit=limit)
    last = records[-1] if records else None
    more = last is not None and not last.is_final
    cursor = b'"%d"' % last.seq if last is not None and more else b"null"
    body = b'{"items":%b,"next_cursor":%b}' % (json_page(records), cursor)
    return Response(body, media_type="application/json")


@post(
    "/v1/jobs/{job_id:str}/cancel",
    status_code=200,
    summary="Cancel a job; what it has said is kept",
)
async def cancel_job(
    request: Request[Any, Any, Any],
    job_id: FromPath[str],
    jobs: NamedDependency[SkipValidation[JobsOfUser]],
) -> JobStatusView:
    return JobStatusView(job_id=job_id, status=await jobs.cancel(request.user.user, job_id))


def view_of(job: Job, error: Any) -> JobView:
    done = decode_event(job.done) if job.done else None
    ended = done if isinstance(done, Done) else None
    failed = error if isinstance(error, ErrorRaised) else None
    return JobView(
        job_id=job.job_id,
        thread_id=job.thread_id,
        trace_id=job.trace_id,
        status=job.status,
        attempt=job.attempt,
        last_seq=job.last_seq,
        content=ended.content if ended else None,
        error=failed
        and JobErrorView(code=failed.code, message=failed.message, retryable=failed.retryable),
        usage=ended.usage if ended else None,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


HANDLERS = [create_job, get_job, job_events, cancel_job]
