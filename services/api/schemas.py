"""What clients send and receive: the bodies of docs/protocol.md."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from services.api.described_json import INTEGER_MAX, NO_NUL, DescribedAsJson, given
from shared.commands import OnBusy
from shared.events import ThreadStatus, Usage

MESSAGE_CHARS_MAX: Final = 65_536
TITLE_CHARS_MAX: Final = 256
METADATA_BYTES_MAX: Final = 16 * 1024  # as JSON
METADATA_DEPTH_MAX: Final = 16


def _clean(text: str) -> str:
    """Refuses what Postgres cannot store or UTF-8 cannot say."""
    if "\0" in text:
        raise ValueError("must not contain U+0000")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain half a surrogate pair") from None
    return text


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    _check(metadata, METADATA_DEPTH_MAX)
    if len(json.dumps(metadata, ensure_ascii=False).encode()) > METADATA_BYTES_MAX:
        raise ValueError(f"at most {METADATA_BYTES_MAX} bytes of JSON")
    return metadata


def _check(value: object, depth: int) -> None:
    """Walk JSON that every reader must understand alike. Raises ValueError."""
    if depth < 0:
        raise ValueError(f"at most {METADATA_DEPTH_MAX} levels deep")
    match value:
        case str():
            _clean(value)
        case int() if abs(value) > INTEGER_MAX:
            raise ValueError("integers from -2**53 to 2**53")
        case float() if not math.isfinite(value):
            raise ValueError("numbers that are finite")
        case dict() | list():
            inner = cast("dict[str, object] | list[object]", value)
            for part in (*inner, *inner.values()) if isinstance(inner, dict) else inner:
                _check(part, depth - 1)
        case _:
            pass


Text = Annotated[
    str,
    Field(min_length=1, max_length=MESSAGE_CHARS_MAX, json_schema_extra=NO_NUL),
    AfterValidator(_clean),
]
Title = Annotated[
    str,
    Field(min_length=1, max_length=TITLE_CHARS_MAX, json_schema_extra=NO_NUL),
    AfterValidator(_clean),
]
AgentName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
Metadata = Annotated[dict[str, Any], AfterValidator(_small), DescribedAsJson()]


class Body(BaseModel):
    """A request body: unknown fields are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CreateThread(Body):
    title: Title | None = None
    agent: AgentName | None = None
    metadata: Metadata = Field(default_factory=dict)


class UpdateThread(Body):
    """At least one field; what is absent stays."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [given("title"), given("metadata"), given("status")]}
    )

    title: Title | None = None
    metadata: Metadata | None = None
    status: ThreadStatus | None = None


class ReadThread(Body):
    message_id: str = Field(max_length=64)


class _Question(Body):
    agent: AgentName | None = None
    metadata: Metadata = Field(default_factory=dict)
    on_busy: OnBusy = "enqueue"
    stream: bool = False


class PostMessage(_Question):
    """A message; with `replaces` one in the place of an earlier one, or, without content, the same
    once more."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [given("content"), given("replaces")]})

    content: Text | None = None
    replaces: str | None = Field(None, max_length=64)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and self.replaces is None:
            raise ValueError("give content, or replaces")
        return self


class CreateJob(_Question):
    query: Text
    thread_id: str | None = Field(None, max_length=64)


class CreateTicket(Body):
    """Names one thing: a thread or a job."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [given("thread_id"), given("job_id")]})

    thread_id: str | None = Field(None, max_length=64)
    job_id: str | None = Field(None, max_length=64)

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.thread_id is None) == (self.job_id is None):
            raise ValueError("give either thread_id or job_id")
        return self


class View(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True)


class ThreadView(View):
    thread_id: str
    owner: str
    participants: list[str]
    title: str | None
    agent: str | None
    metadata: dict[str, Any]
    status: ThreadStatus
    state: str
    active_job_id: str | None
    last_position: int
    unread_count: int | None  # None: not known while Postgres is away
    created_at: str
    updated_at: str


class ThreadPage(View):
    items: list[ThreadView]
    next_cursor: str | None


class MessageView(View):
    message_id: str
    thread_id: str
    job_id: str
    role: Literal["user", "assistant"]
    author: str | None
    content: str
    metadata: dict[str, Any]
    status: str | None
    state: str
    finish_reason: str | None
    usage: Usage | None
    replaces: str | None
    position: int
    created_at: str


class MessagePage(View):
    items: list[MessageView]
    next_cursor: str | None
    total: int


class MessageStateView(View):
    message_id: str
    state: str


class SnippetPiece(View):
    text: str
    is_match: bool


class FoundMessageView(View):
    """A message that a search has found; ``snippet``, joined, is a piece of its text."""

    message_id: str
    thread_id: str
    thread_title: str | None
    job_id: str
    role: Literal["user", "assistant"]
    author: str | None
    position: int
    created_at: str
    snippet: list[SnippetPiece]


class FoundPage(View):
    items: list[FoundMessageView]
    next_cursor: str | None


class AcceptedView(View):
    message_id: str
    job_id: str
    thread_id: str
    trace_id: str
    status: Literal["queued"] = "queued"


class JobErrorView(View):
    code: str
    message: str
    retryable: bool


class JobView(View):
    job_id: str
    thread_id: str
    trace_id: str
    status: str
    attempt: int
    last_seq: int
    content: str | None
    error: JobErrorView | None
    usage: Usage | None
    created_at: str
    started_at: str | None
    finished_at: str | None


class JobStatusView(View):
    job_id: str
    status: str


class TicketView(View):
    ticket: str
    expires_in: int = Field(description="seconds")


class AgentView(View):
    name: str
    description: str
    model: str


class AgentPage(View):
    items: list[AgentView]


class StreamEvent(View):
    """One of Server-Sent Events; ``data`` is a line of JSON, as docs/protocol.md describes it."""

    id: str | None = Field(None, description="the cursor to resume at; without it there is none")
    event: str
    data: str
    retry: int | None = None


class EventPage(View):
    """Events as their stream has them; ``next_cursor`` is None once `done` was given."""

    items: list[dict[str, Any]]
    next_cursor: str | None


class HealthView(View):
    status: Literal["ok"] = "ok"


class ReadinessView(View):
    status: Literal["ready", "not ready"]
    problems: list[str]
