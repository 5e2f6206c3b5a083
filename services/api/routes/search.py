"""/v1/search"""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter, SkipValidation

from services.api.cursors import FoundCursor
from services.api.problems import BadRequest
from services.api.routes.documented import refusals
from services.api.schemas import FoundMessageView, FoundPage, SnippetPiece
from services.api.search import Found, Search
from services.api.search_query import Wish
from shared.search_terms import query_of

QUERY_CHARS_MAX = 200

Text = Annotated[
    str,
    QueryParameter(
        name="q",
        min_length=1,
        max_length=QUERY_CHARS_MAX,
        description="words that must all be there; the last one may go on",
    ),
]


@get(
    "/v1/search/messages",
    summary="Search one's messages, best match first",
    responses=refusals("not_found", "bad_cursor", "archive_unavailable", "search_too_slow"),
)
async def search_messages(
    request: Request[Any, Any, Any],
    search: NamedDependency[SkipValidation[Search]],
    text: Text,
    thread_id: Annotated[str | None, QueryParameter(description="only in this thread")] = None,
    cursor: Annotated[str | None, QueryParameter(description="`next_cursor` of a page")] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=50)] = 20,
) -> FoundPage:
    if "\0" in text:
        raise BadRequest("invalid_request", "`q` must not contain U+0000.")
    place = FoundCursor.decode(cursor) if cursor else None
    wish = Wish(request.user.user, query_of(text), limit, thread_id, place)
    page, following = await search.page(wish)
    return FoundPage(
        items=[view_of(found) for found in page],
        next_cursor=following.encode() if following else None,
    )


def view_of(found: Found) -> FoundMessageView:
    message = found.hit.message
    return FoundMessageView(
        message_id=message.message_id,
        thread_id=message.thread_id,
        thread_title=found.hit.thread_title,
        job_id=message.job_id,
        role=message.role,
        author=message.author,
        position=message.position,
        created_at=message.created_at,
        snippet=[SnippetPiece(text=p.text, is_match=p.is_match) for p in found.snippet],
    )


HANDLERS = [search_messages]
