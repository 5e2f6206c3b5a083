"""/v1/jobs"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from litestar import Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidation

from services.api.authentication import TICKET_FOR
from services.api.bodies import CreateJob
from services.api.feed import Feed
from services.api.jobs import PAGE_EVENTS_MAX, JobsOfUser
from services.api.post_message import Question, idempotency_of
from services.api.routes.answers import Answers
from services.api.routes.documented import EVENT_STREAM, TICKET, PageOrStream, refusals
from services.api.routes.json_bodies import takes_json
from services.api.routes.parameters import IdempotencyKey, event_place
from services.api.schemas import (
    AcceptedView,
    EventPage,
    JobErrorView,
    JobStatusView,
    JobView,
)
from services.api.sse import event_stream, job_stream
from services.api.stream_leases import StreamLeases
from services.api.viewing import Viewer
from shared.codec import Record, decode_event, json_page
from shared.events import Done, ErrorRaised
from shared.hot_state import Job


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which of a job's events, and how."""

    after: int
    format: Literal["sse", "json"]
    limit: int


async def event_query(
    place: NamedDependency[SkipValidation[int]],
    form: Annotated[Literal["sse", "json"], QueryParameter(name="format")] = "sse",
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_EVENTS_MAX)] = 500,
) -> EventQuery:
    return EventQuery(place, form, limit)


@post(
    "/v1/jobs",
    status_code=202,
    summary="Ask a question, in a new thread if none is named",
    guards=[takes_json],
    responses={
        **refusals(
            "not_found", "unknown_agent", "bad_idempotency_key", "thread_busy",
            "idempotency_mismatch", "queue_full", "too_many_jobs", "too_many_streams",
            "archive_unavailable", body=True,
        ),
        200: EVENT_STREAM,
        202: ResponseSpec(AcceptedView, generate_examples=False, description="It will be answered"),
    },
)  # fmt: skip
async def create_job(
    request: Request[Any, Any, Any],
    data: JSONBody[CreateJob],
    answers: NamedDependency[SkipValidation[Answers]],
    idempotency_key: IdempotencyKey = None,
) -> Response[Any]:
    question = Question(
        data.query,
        data.thread_id,
        data.agent,
        data.metadata,
        data.on_busy,
        attachments=data.attachments,
    )
    named = idempotency_of(idempotency_key, "create_job", data, thread_id=data.thread_id)
    return await answers.to(request.user, question, named, stream=data.stream)


@get(
    "/v1/jobs/{job_id:str}",
    summary="Get a job",
    responses=refusals("not_found", "archive_unavailable"),
)
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
    dependencies={"place": Provide(event_place), "wanted": Provide(event_query)},
    operation_class=PageOrStream,
    security=TICKET,
    opt={TICKET_FOR: "job_id"},
    responses=refusals(
        *("not_found", "events_gone", "bad_cursor", "cursor_ahead", "too_many_streams"),
        "archive_unavailable",
    ),
)
async def job_events(
    request: Request[Any, Any, Any],
    job_id: FromPath[str],
    jobs: NamedDependency[SkipValidation[JobsOfUser]],
    feed: NamedDependency[SkipValidation[Feed]],
    streams: NamedDependency[SkipValidation[StreamLeases]],
    wanted: NamedDependency[SkipValidation[EventQuery]],
) -> Response[EventPage]:
    caller = request.user
    job = await jobs.reached(caller.user, job_id, wanted.after)
    if wanted.format == "json":
        return _page(job, wanted, await jobs.page(job, after=wanted.after, limit=wanted.limit))
    lease = await streams.open(caller.user)
    viewer = Viewer(caller, lambda: jobs.may_follow(caller.user, job.thread_id))
    events = job_stream(feed, job, after=wanted.after, viewer=viewer, lease=lease)
    return cast("Any", await event_stream(events))


@post(
    "/v1/jobs/{job_id:str}/cancel",
    status_code=200,
    summary="Cancel a job; what it has said is kept",
    responses=refusals("not_found", "archive_unavailable"),
)
async def cancel_job(
    request: Request[Any, Any, Any],
    job_id: FromPath[str],
    jobs: NamedDependency[SkipValidation[JobsOfUser]],
) -> JobStatusView:
    return JobStatusView(job_id=job_id, status=await jobs.cancel(request.user.user, job_id))


def _page(job: Job, wanted: EventQuery, records: list[Record]) -> Response[Any]:
    """The records' own bytes, joined; the cursor goes on until ``done`` was given."""
    last = records[-1].seq if records else wanted.after
    cursor = b"null" if job.is_over and last >= job.last_seq else b'"%d"' % last
    body = b'{"items":%b,"next_cursor":%b}' % (json_page(records), cursor)
    return Response(body, media_type="application/json")


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
