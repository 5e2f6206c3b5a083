"""/v1/threads"""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter, SkipValidation
from litestar.response import Stream

from services.api.cursors import ThreadCursor, event_cursor
from services.api.feed import Feed
from services.api.post_message import idempotency_of
from services.api.problems import BadRequest
from services.api.schemas import CreateThread, ThreadPage, ThreadView, UpdateThread
from services.api.sse import event_stream, thread_stream
from services.api.threads import Threads
from shared.agents import Agent
from shared.events import ThreadStatus, ThreadUpdated, utc_now
from shared.thread_log import Thread

Limit = Annotated[int, QueryParameter(ge=1, le=100)]
IdempotencyKey = Annotated[str | None, HeaderParameter(name="Idempotency-Key", default=None)]
LastEventId = Annotated[str | None, HeaderParameter(name="Last-Event-ID", default=None)]
Optional = Annotated[str | None, QueryParameter(default=None)]


@post("/v1/threads", summary="Create a thread")
async def create_thread(
    request: Request[Any, Any, Any],
    data: JSONBody[CreateThread],
    threads: NamedDependency[SkipValidation[Threads]],
    agents: NamedDependency[SkipValidation[dict[str, Agent]]],
    idempotency_key: IdempotencyKey,
) -> ThreadView:
    if data.agent is not None and data.agent not in agents:
        raise BadRequest("unknown_agent", f"There is no agent {data.agent!r}.")
    thread = await threads.create(
        request.user.user,
        title=data.title,
        agent=data.agent,
        metadata=data.metadata,
        idempotency=idempotency_of(idempotency_key, "create_thread", data),
    )
    return view_of(thread)


@get("/v1/threads", summary="List threads, newest activity first")
async def list_threads(
    request: Request[Any, Any, Any],
    threads: NamedDependency[SkipValidation[Threads]],
    status: Annotated[ThreadStatus | None, QueryParameter(default=None)],
    agent: Optional,
    cursor: Optional,
    limit: Limit = 20,
) -> ThreadPage:
    page, following = await threads.list(
        request.user.user,
        status=status,
        agent=agent,
        limit=limit,
        cursor=ThreadCursor.decode(cursor) if cursor else None,
    )
    return ThreadPage(
        items=[view_of(thread) for thread in page],
        next_cursor=following.encode() if following else None,
    )


@get("/v1/threads/{thread_id:str}", summary="Get a thread")
async def get_thread(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    threads: NamedDependency[SkipValidation[Threads]],
) -> ThreadView:
    return view_of(await threads.get(request.user.user, thread_id))


@patch("/v1/threads/{thread_id:str}", summary="Rename, re-label or archive a thread")
async def update_thread(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    data: JSONBody[UpdateThread],
    threads: NamedDependency[SkipValidation[Threads]],
) -> ThreadView:
    changes = data.model_dump(exclude_none=True)
    if not changes:
        raise BadRequest("nothing_to_change", "Give a title, metadata or a status.")
    event = ThreadUpdated(thread_id=thread_id, at=utc_now(), **changes)
    return view_of(await threads.update(request.user.user, event))


@delete("/v1/threads/{thread_id:str}", summary="Delete a thread; its jobs are cancelled first")
async def delete_thread(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    threads: NamedDependency[SkipValidation[Threads]],
) -> None:
    await threads.delete(request.user.user, thread_id)


@get(
    "/v1/threads/{thread_id:str}/events",
    summary="Follow a thread by Server-Sent Events; `id` is the position",
)
async def thread_events(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    threads: NamedDependency[SkipValidation[Threads]],
    feed: NamedDependency[SkipValidation[Feed]],
    last_event_id: LastEventId,
    after: Optional,
) -> Stream:
    position = event_cursor(last_event_id, after)
    thread = await threads.get(request.user.user, thread_id)
    if position > thread.position:
        raise BadRequest("cursor_ahead", f"The thread has only {thread.position} events so far.")
    return event_stream(thread_stream(feed, thread, after=position))


def view_of(thread: Thread) -> ThreadView:
    return ThreadView(
        thread_id=thread.thread_id,
        title=thread.title,
        agent=thread.agent,
        metadata=thread.metadata,
        status=thread.status,
        state=thread.state,
        active_job_id=thread.active_job_id,
        last_position=thread.position,
        created_at=thread.created_at,
        updated_at=thread.updated_at,
    )


HANDLERS = [
    create_thread,
    list_threads,
    get_thread,
    update_thread,
    delete_thread,
    thread_events,
]
