"""What clients send and receive: the bodies of docs/protocol.md."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.commands import OnBusy
from shared.events import ThreadStatus, Usage

MESSAGE_CHARS_MAX: Final = 65_536
TITLE_CHARS_MAX: Final = 256
METADATA_KEYS_MAX: Final = 64
METADATA_BYTES_MAX: Final = 16 * 1024


def _clean(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain U+0000")
    return text


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(metadata) > METADATA_KEYS_MAX or len(repr(metadata)) > METADATA_BYTES_MAX:
        raise ValueError(f"at most {METADATA_KEYS_MAX} keys and {METADATA_BYTES_MAX} bytes")
    if "\x00" in repr(metadata) or "\\x00" in repr(metadata):
        raise ValueError("must not contain U+0000")
    return metadata


Text = Annotated[str, Field(min_length=1, max_length=MESSAGE_CHARS_MAX), AfterValidator(_clean)]
Title = Annotated[str, Field(min_length=1, max_length=TITLE_CHARS_MAX), AfterValidator(_clean)]
AgentName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]


class Body(BaseModel):
    """A request body: unknown fields are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CreateThread(Body):
    title: Title | None = None
    agent: AgentName | None = None
    metadata: Metadata = Field(default_factory=dict)


class UpdateThread(Body):
    """At least one field; what is absent stays."""

    title: Title | None = None
    metadata: Metadata | None = None
    status: ThreadStatus | None = None


class _Question(Body):
    agent: AgentName | None = None
    metadata: Metadata = Field(default_factory=dict)
    on_busy: OnBusy = "enqueue"
    stream: bool = False


class PostMessage(_Question):
    content: Text


class CreateJob(_Question):
    query: Text
    thread_id: str | None = Field(None, max_length=64)


class View(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True)


class ThreadView(View):
    thread_id: str
    title: str | None
    agent: str | None
    metadata: dict[str, Any]
    status: ThreadStatus
    state: str
    active_job_id: str | None
    last_position: int
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
    position: int
    created_at: str


class MessagePage(View):
    items: list[MessageView]
    next_cursor: str | None
    total: int


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


class AgentView(View):
    name: str
    description: str
    model: str


class AgentPage(View):
    items: list[AgentView]
