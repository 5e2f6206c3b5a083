"""What OpenAPI says of answers beside a route's own body: problems, and Server-Sent Events."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from litestar.openapi import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Reference,
)
from pydantic import Field

from services.api.document import REFERENCE
from services.api.problems import CODES, PROBLEM_JSON
from services.api.schemas import StreamEvent, View
from services.api.sse import MEDIA_TYPE

_EVERYWHERE: Final = (
    "invalid_request",
    "token_in_url",
    "unauthorized",
    "rate_limited",
    "internal_error",
    "log_unavailable",
    "keys_unavailable",
)
_WITH_BODY: Final = ("body_too_large", "unsupported_media_type")


class FieldProblem(View):
    field: str
    message: str


class Problem(View):
    """RFC 9457 problem details: `code` is for programs, `detail` for people."""

    type: str
    title: str
    status: int
    code: str = Field(json_schema_extra={"enum": list(CODES)})
    detail: str
    errors: list[FieldProblem] | None = Field(None, description="which fields are not valid")


TICKET: Final = [{"ticket": list[str]()}]  # instead of a token

EVENT_STREAM: Final = ResponseSpec(
    StreamEvent,
    media_type=MEDIA_TYPE,
    generate_examples=False,
    description="Server-Sent Events: `id` is the cursor to resume at, `data` one line of JSON",
)


def refusals(*codes: str, body: bool = False) -> dict[int, ResponseSpec]:
    """The problems a route may answer with, beside those that every route has."""
    by_status: defaultdict[int, list[str]] = defaultdict(list)
    for code in dict.fromkeys((*_EVERYWHERE, *(_WITH_BODY if body else ()), *codes)):
        by_status[CODES[code]].append(f"`{code}`")
    return {
        status: ResponseSpec(
            Problem,
            media_type=PROBLEM_JSON,
            generate_examples=False,
            description=f"{HTTPStatus(status).phrase}: {', '.join(named)}",
        )
        for status, named in sorted(by_status.items())
    }


_ONE_EVENT: Final = Reference(REFERENCE.format(model=StreamEvent.__name__))


@dataclass
class PageOrStream(Operation):
    """Answers with a page of JSON, or with the stream itself."""

    def __post_init__(self) -> None:
        answer = (self.responses or {})["200"]
        if isinstance(answer, OpenAPIResponse) and answer.content is not None:
            answer.content[MEDIA_TYPE] = OpenAPIMediaType(_ONE_EVENT)
