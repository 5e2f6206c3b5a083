"""/v1/threads/{thread_id}/messages"""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidation

from services.api.feed import Feed
from services.api.jobs import JobsOfUser
from services.api.messages import Messages
from services.api.post_message import Asking, idempotency_of
from services.api.routes.answers import answer_of
from services.api.routes.threads import IdempotencyKey, Optional
from services.api.schemas import AcceptedView, MessagePage, MessageView, PostMessage
from services.api.threads import Threads
from shared.states import MessageState
from shared.transcript import Message

Limit = Annotated[int, QueryParameter(ge=1, le=200)]


@post(
    "/v1/threads/{thread_id:str}/messages",
    status_code=202,
    summary="Post a message and have it answered",
    responses={202: ResponseSpec(AcceptedView, generate_examples=False)},
)
async def post_message(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    data: JSONBody[PostMessage],
    asking: NamedDependency[SkipValidation[Asking]],
    jobs: NamedDependency[SkipValidation[JobsOfUser]],
    feed: NamedDependency[SkipValidation[Feed]],
    idempotency_key: IdempotencyKey,
) -> Response[Any]:
    accepted = await asking.ask(
        request.user,
        data.content,
        thread_id=thread_id,
        agent=data.agent,
        metadata=data.metadata,
        on_busy=data.on_busy,
        idempotency=idempotency_of(idempotency_key, f"message {thread_id}", data),
    )
    return await answer_of(request.user.user, accepted, jobs, feed, stream=data.stream)


@get("/v1/threads/{thread_id:str}/messages", summary="Read a thread, oldest message first")
async def list_messages(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    threads: NamedDependency[SkipValidation[Threads]],
    messages: NamedDependency[SkipValidation[Messages]],
    before: Optional,
    after: Optional,
    limit: Limit = 50,
) -> MessagePage:
    thread = await threads.get(request.user.user, thread_id)
    page = await messages.page(thread, before=before, after=after, limit=limit)
    return MessagePage(
        items=[view_of(message, state) for message, state in page.items],
        next_cursor=page.next_cursor,
        total=page.total,
    )


def view_of(message: Message, state: MessageState) -> MessageView:
    return MessageView.model_validate(
        {name: getattr(message, name) for name in message.__slots__} | {"state": state}
    )


HANDLERS = [post_message, list_messages]
