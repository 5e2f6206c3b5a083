"""What clients receive: the views of docs/protocol.md."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.events import ThreadStatus, Usage


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


class FileInfo(View):
    name: str
    type: str
    size: int = Field(description="bytes")


class FileView(View):
    """A file of a thread, and where its bytes are."""

    file_id: str
    file_url: str
    thumbnail_url: str | None
    file_info: FileInfo


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
    attachments: list[FileView]
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
