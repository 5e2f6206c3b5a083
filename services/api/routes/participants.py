"""/v1/threads/{thread_id}/participants"""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, delete, put
from litestar.di import NamedDependency
from litestar.params import FromPath, PathParameter, SkipValidation

from services.api.authentication import is_user
from services.api.problems import BadRequest
from services.api.routes.documented import refusals
from services.api.routes.thread_views import ThreadViews
from services.api.schemas import ThreadView
from services.api.threads import Threads

User = Annotated[str, PathParameter(description="the `sub` of the user's tokens")]


@put(
    "/v1/threads/{thread_id:str}/participants/{user:str}",
    summary="Let a user into a thread of one's own",
    responses=refusals("not_found", "not_the_owner", "thread_crowded", "archive_unavailable"),
)
async def add_participant(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    user: User,
    threads: NamedDependency[SkipValidation[Threads]],
    views: NamedDependency[SkipValidation[ThreadViews]],
) -> ThreadView:
    thread = await threads.invite(request.user.user, thread_id, _known_form(user))
    return await views.one(request.user.user, thread)


@delete(
    "/v1/threads/{thread_id:str}/participants/{user:str}",
    summary="Take a user out of a thread of one's own, or leave one",
    responses=refusals("not_found", "not_the_owner", "owner_stays", "archive_unavailable"),
)
async def remove_participant(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    user: User,
    threads: NamedDependency[SkipValidation[Threads]],
) -> None:
    await threads.part(request.user.user, thread_id, _known_form(user))


def _known_form(user: str) -> str:
    """Raises BadRequest for what no token can name."""
    if not is_user(user):
        raise BadRequest("invalid_request", "A user is named by 1 to 128 visible characters.")
    return user


HANDLERS = [add_participant, remove_participant]
