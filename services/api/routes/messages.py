"""/v1/threads/{thread_id}/messages"""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidation

from services.api.bodies import PostMessage
from services.api.messages import Messages
from services.api.post_message import Question, idempotency_of
from services.api.routes.answers import Answers
from services.api.routes.documented import EVENT_STREAM, refusals
from services.api.routes.file_views import view_of_attachment
from services.api.routes.json_bodies import takes_json
from services.api.routes.parameters import IdempotencyKey
from services.api.schemas import (
    AcceptedView,
    MessagePage,
    MessageStateView,
    MessageView,
)
from shared.states import MessageState
from shared.transcript import Message

Limit = Annotated[int, QueryParameter(ge=1, le=200)]
Place = Annotated[str | None, QueryParameter(description="a message id, or an RFC 3339 time")]


@post(
    "/v1/threads/{thread_id:str}/messages",
    status_code=202,
    summary="Post a message and have it answered",
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
async def post_message(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    data: JSONBody[PostMessage],
    answers: NamedDependency[SkipValidation[Answers]],
    idempotency_key: IdempotencyKey = None,
) -> Response[Any]:
    question = Question(
        data.content,
        thread_id,
        data.agent,
        data.metadata,
        data.on_busy,
        data.replaces,
        data.attachments,
    )
    named = idempotency_of(idempotency_key, "post_message", data, thread_id=thread_id)
    return await answers.to(request.user, question, named, stream=data.stream)


@get(
    "/v1/threads/{thread_id:str}/messages",
    summary="Read a thread, oldest message first",
    responses=refusals("not_found", "bad_cursor", "archive_unavailable"),
)
async def list_messages(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    messages: NamedDependency[SkipValidation[Messages]],
    before: Place = None,
    after: Place = None,
    limit: Limit = 50,
) -> MessagePage:
    page = await messages.page(
        request.user.user, thread_id, before=before, after=after, limit=limit
    )
    return MessagePage(
        items=[view_of(message, state) for message, state in page.items],
        next_cursor=page.next_cursor,
        total=page.total,
    )


@get(
    "/v1/threads/{thread_id:str}/messages/{message_id:str}",
    summary="Get a message",
    responses=refusals("not_found", "archive_unavailable"),
)
async def get_message(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    message_id: FromPath[str],
    messages: NamedDependency[SkipValidation[Messages]],
) -> MessageView:
    return view_of(*await messages.get(request.user.user, thread_id, message_id))


@delete(
    "/v1/threads/{thread_id:str}/messages/{message_id:str}",
    status_code=200,
    summary="Delete a message; a job that is still at it is cancelled",
    responses=refusals("not_found", "not_the_owner", "archive_unavailable"),
)
async def delete_message(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    message_id: FromPath[str],
    messages: NamedDependency[SkipValidation[Messages]],
) -> MessageStateView:
    state = await messages.delete(request.user.user, thread_id, message_id)
    return MessageStateView(message_id=message_id, state=state)


def view_of(message: Message, state: MessageState) -> MessageView:
    said = {name: getattr(message, name) for name in message.__slots__}
    said |= {"state": state, "attachments": [*map(view_of_attachment, message.attachments)]}
    return MessageView.model_validate(said)


HANDLERS = [post_message, list_messages, get_message, delete_message]
