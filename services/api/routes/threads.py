"""/v1/threads"""

from __future__ import annotations

from typing import Annotated, Any, Final, cast, get_args

from litestar import Request, Response, delete, get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidation
from litestar.response import Stream

from services.api.authentication import TICKET_FOR
from services.api.bodies import CreateThread, ReadThread, UpdateThread
from services.api.cursors import ThreadCursor
from services.api.device_views import CancelledView
from services.api.feed import Feed
from services.api.jobs import JobsOfUser
from services.api.messages import Messages
from services.api.post_message import check_agent, idempotency_of
from services.api.problems import BadRequest
from services.api.queries import ThreadQuery
from services.api.routes.documented import EVENT_STREAM, TICKET, refusals
from services.api.routes.json_bodies import takes_json
from services.api.routes.parameters import IdempotencyKey, event_place
from services.api.routes.thread_views import ThreadViews
from services.api.schemas import JobStatusView, ThreadPage, ThreadView
from services.api.sse import event_stream, thread_stream
from services.api.stream_leases import StreamLeases
from services.api.threads import Threads
from services.api.viewing import Viewer
from shared.agents import Agent
from shared.events import ThreadStatus, ThreadUpdated
from shared.times import utc_now

Limit = Annotated[int, QueryParameter(ge=1, le=100)]
_STATUSES: Final = list(get_args(ThreadStatus))


async def thread_query(
    status: Annotated[str | None, QueryParameter(schema_extra={"enum": _STATUSES})] = None,
    agent: Annotated[str | None, QueryParameter(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = None,
    cursor: Annotated[str | None, QueryParameter(description="`next_cursor` of a page")] = None,
    limit: Limit = 20,
) -> ThreadQuery:
    if status not in (None, *_STATUSES):  # the framework would read `null` as no status at all
        raise BadRequest("invalid_request", "`status` is not one of those that a thread can have.")
    place = ThreadCursor.decode(cursor) if cursor else None
    return ThreadQuery(limit, cast("ThreadStatus | None", status), agent, place)


@post(
    "/v1/threads",
    summary="Create a thread",
    guards=[takes_json],
    responses=refusals(
        "unknown_agent", "bad_idempotency_key", "idempotency_mismatch", "archive_unavailable",
        body=True,
    ),
)  # fmt: skip
async def create_thread(
    request: Request[Any, Any, Any],
    data: JSONBody[CreateThread],
    threads: NamedDependency[SkipValidation[Threads]],
    agents: NamedDependency[SkipValidation[dict[str, Agent]]],
    views: NamedDependency[SkipValidation[ThreadViews]],
    idempotency_key: IdempotencyKey = None,
) -> Response[ThreadView]:
    check_agent(agents, data.agent)
    thread = await threads.create(
        request.user.user,
        title=data.title,
        agent=data.agent,
        metadata=data.metadata,
        idempotency=idempotency_of(idempotency_key, "create_thread", data),
    )
    location = {"Location": f"/v1/threads/{thread.thread_id}"}
    return Response(views.new(thread), headers=location)


@get(
    "/v1/threads",
    summary="List threads, newest activity first",
    dependencies={"wanted": Provide(thread_query)},
    responses=refusals("bad_cursor", "archive_unavailable"),
)
async def list_threads(
    request: Request[Any, Any, Any],
    threads: NamedDependency[SkipValidation[Threads]],
    wanted: NamedDependency[SkipValidation[ThreadQuery]],
    views: NamedDependency[SkipValidation[ThreadViews]],
) -> ThreadPage:
    page, following = await threads.list(request.user.user, wanted)
    return ThreadPage(
        items=await views.many(request.user.user, page),
        next_cursor=following.encode() if following else None,
    )


@get(
    "/v1/threads/{thread_id:str}",
    summary="Get a thread",
    responses=refusals("not_found", "archive_unavailable"),
)
async def get_thread(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    threads: NamedDependency[SkipValidation[Threads]],
    views: NamedDependency[SkipValidation[ThreadViews]],
) -> ThreadView:
    return await views.one(request.user.user, await threads.get(request.user.user, thread_id))


@patch(
    "/v1/threads/{thread_id:str}",
    summary="Rename, re-label or archive a thread",
    guards=[takes_json],
    responses=refusals(
        "not_found", "not_the_owner", "nothing_to_change", "archive_unavailable", body=True
    ),
)
async def update_thread(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    data: JSONBody[UpdateThread],
    threads: NamedDependency[SkipValidation[Threads]],
    views: NamedDependency[SkipValidation[ThreadViews]],
) -> ThreadView:
    changes = data.model_dump(exclude_none=True)
    if not changes:
        raise BadRequest("nothing_to_change", "Give a title, metadata or a status.")
    event = ThreadUpdated(thread_id=thread_id, at=utc_now(), **changes)
    return await views.one(request.user.user, await threads.update(request.user.user, event))


@delete(
    "/v1/threads/{thread_id:str}",
    summary="Delete a thread; its jobs are cancelled first",
    responses=refusals("not_found", "not_the_owner", "archive_unavailable"),
)
async def delete_thread(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    threads: NamedDependency[SkipValidation[Threads]],
) -> None:
    await threads.delete(request.user.user, thread_id)


@get(
    "/v1/threads/{thread_id:str}/events",
    summary="Follow a thread by Server-Sent Events; `id` is the position",
    dependencies={"place": Provide(event_place)},
    security=TICKET,
    opt={TICKET_FOR: "thread_id"},
    responses={
        **refusals(
            *("not_found", "events_gone", "bad_cursor", "cursor_ahead", "too_many_streams"),
            "archive_unavailable",
        ),
        200: EVENT_STREAM,
    },
)
async def thread_events(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    threads: NamedDependency[SkipValidation[Threads]],
    feed: NamedDependency[SkipValidation[Feed]],
    streams: NamedDependency[SkipValidation[StreamLeases]],
    place: NamedDependency[SkipValidation[int]],
) -> Stream:
    caller = request.user
    thread = await threads.reached(caller.user, thread_id, place)
    lease = await streams.open(caller.user)
    viewer = Viewer(caller, lambda: threads.may_follow(caller.user, thread_id))
    events = thread_stream(feed, thread, after=place, viewer=viewer, lease=lease)
    return await event_stream(events)


@post(
    "/v1/threads/{thread_id:str}/cancel",
    status_code=200,
    summary="Cancel what this device has asked in a thread",
    responses=refusals("not_found", "archive_unavailable"),
)
async def cancel_thread(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    jobs: NamedDependency[SkipValidation[JobsOfUser]],
) -> CancelledView:
    statuses = await jobs.cancel_session(request.user, thread_id)
    return CancelledView(
        items=[JobStatusView(job_id=job_id, status=status) for job_id, status in statuses.items()]
    )


@post(
    "/v1/threads/{thread_id:str}/read",
    status_code=200,
    summary="Say that everything up to a message has been read",
    guards=[takes_json],
    responses=refusals("not_found", "archive_unavailable", body=True),
)
async def read_thread(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    data: JSONBody[ReadThread],
    messages: NamedDependency[SkipValidation[Messages]],
    views: NamedDependency[SkipValidation[ThreadViews]],
) -> ThreadView:
    thread = await messages.read(request.user.user, thread_id, data.message_id)
    return await views.one(request.user.user, thread)


HANDLERS = [
    create_thread,
    list_threads,
    get_thread,
    update_thread,
    delete_thread,
    read_thread,
    cancel_thread,
    thread_events,
]
