"""Events: facts that happened, never edited.

A *job event* belongs to one job and is numbered by ``seq``, 1..n without hole. A *thread event*
belongs to the thread alone. Both get a ``position`` in the thread's stream, which is not part of
the event: the log assigns it.

``v`` is the schema version of the event's type. A type this process does not know is kept as
``UnknownEvent`` and passed on unchanged, so that an older reader never loses what a newer writer
said. Field order is the order on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

JobStatus = Literal["queued", "running", "done", "failed", "cancelled"]
FinalStatus = Literal["done", "failed", "cancelled"]
ThreadStatus = Literal["active", "archived"]
Metadata = dict[str, Any]


class Frozen(BaseModel, frozen=True):
    model_config = ConfigDict(extra="ignore")


class Usage(Frozen, frozen=True):
    """Tokens, as the model server counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class JobEvent(Frozen, frozen=True):
    """What every event of a job begins with."""

    type: str
    job_id: str
    seq: int = Field(ge=1)
    attempt: int = Field(ge=0)  # 0: the job ended before any worker began it
    v: int = 1
    at: str


class Started(JobEvent, frozen=True):
    """An attempt began. With attempt > 1 the text received so far is void."""

    type: Literal["started"] = "started"
    agent: str
    model: str


class MetadataAdded(JobEvent, frozen=True):
    """Facts for the client beside the text, such as the sources of an answer."""

    type: Literal["metadata"] = "metadata"
    metadata: Metadata


class Summarized(JobEvent, frozen=True):
    """What the model is shown instead of the thread's beginning, from this job on.

    It stands for the turns whose question stands at ``upto`` or before, as they were at ``as_of``:
    once one of them has changed, it says something that was never said, and is void.
    """

    type: Literal["summarized"] = "summarized"
    content: str
    upto: int = Field(ge=1)
    as_of: int = Field(ge=1)
    usage: Usage | None = None


class Token(JobEvent, frozen=True):
    """The next piece of the answer; ``deltas`` tells how many pieces of the model it joins."""

    type: Literal["token"] = "token"
    content: str
    deltas: int = Field(1, ge=1)


class ToolCall(JobEvent, frozen=True):
    """The model asked for a tool. ``tool_call_id`` is unique in the attempt."""

    type: Literal["tool_call"] = "tool_call"
    tool_call_id: str
    name: str
    arguments: Metadata


class ToolResult(JobEvent, frozen=True):
    """What the model was given for the call of that id."""

    type: Literal["tool_result"] = "tool_result"
    tool_call_id: str
    name: str
    content: str
    is_error: bool = False


class ErrorRaised(JobEvent, frozen=True):
    """Why the job is about to fail; ``done {status: failed}`` follows."""

    type: Literal["error"] = "error"
    code: str
    message: str
    retryable: bool


class Done(JobEvent, frozen=True):
    """The last event of a job. ``content`` joins the tokens of the last attempt."""

    type: Literal["done"] = "done"
    status: FinalStatus
    content: str
    message_id: str
    finish_reason: str | None = None
    usage: Usage | None = None
    latency_ms: int


class ThreadEvent(Frozen, frozen=True):
    """What every event of a thread begins with."""

    type: str
    thread_id: str
    v: int = 1
    at: str


class ThreadCreated(ThreadEvent, frozen=True):
    type: Literal["thread.created"] = "thread.created"
    owner: str
    title: str | None = None
    agent: str | None = None
    metadata: Metadata = Field(default_factory=dict)


class ThreadUpdated(ThreadEvent, frozen=True):
    """Carries only what changed; a field that is absent keeps its value."""

    type: Literal["thread.updated"] = "thread.updated"
    title: str | None = None
    metadata: Metadata | None = None
    status: ThreadStatus | None = None


class ThreadDeleted(ThreadEvent, frozen=True):
    type: Literal["thread.deleted"] = "thread.deleted"


class ParticipantJoined(ThreadEvent, frozen=True):
    """The owner let a user in, who has nothing unread from before."""

    type: Literal["participant.joined"] = "participant.joined"
    user: str


class ParticipantLeft(ThreadEvent, frozen=True):
    """A user went, or was removed: from here on the thread does not exist for them."""

    type: Literal["participant.left"] = "participant.left"
    user: str


class ThreadRead(ThreadEvent, frozen=True):
    """A user has read up to a message; ``upto`` is its position."""

    type: Literal["thread.read"] = "thread.read"
    user: str
    message_id: str
    upto: int = Field(ge=1)


class Attachment(Frozen, frozen=True):
    """A file as a message refers to it."""

    file_id: str
    name: str
    type: str
    size: int = Field(ge=0)
    has_thumbnail: bool = False


class MessagePosted(ThreadEvent, frozen=True):
    """A user asked; ``reply_id`` will be the id of the assistant's message."""

    type: Literal["message.posted"] = "message.posted"
    message_id: str
    job_id: str
    reply_id: str
    user: str
    content: str
    agent: str
    metadata: Metadata = Field(default_factory=dict)
    trace_id: str
    session_id: str | None = None
    replaces: str | None = None  # an earlier question, with all that was said from there on
    replaced_position: int | None = None  # of that question
    attachments: tuple[Attachment, ...] = ()


class MessageDeleted(ThreadEvent, frozen=True):
    """Nobody is to see a message again; a job that was still answering it is cancelled."""

    type: Literal["message.deleted"] = "message.deleted"
    message_id: str
    job_id: str
    user: str


class FileAdded(ThreadEvent, frozen=True):
    """A user put a file into the thread; its bytes are in the store of files."""

    type: Literal["file.added"] = "file.added"
    file_id: str
    user: str
    name: str
    media_type: str
    size: int = Field(ge=1)
    sha256: str
    has_thumbnail: bool = False
    passages: int = Field(default=0, ge=0)  # how many were taken from its text

    def as_attachment(self) -> Attachment:
        """As a message that has it attached says it."""
        facts = self.model_dump(include={"file_id", "name", "size", "has_thumbnail"})
        return Attachment(type=self.media_type, **facts)


class FilePassages(ThreadEvent, frozen=True):
    """A part of a file's text, cut into passages; ``first`` is the number of the first one."""

    type: Literal["file.passages"] = "file.passages"
    file_id: str
    first: int = Field(ge=1)
    texts: tuple[str, ...]


class FileDeleted(ThreadEvent, frozen=True):
    """Nobody is to have a file again."""

    type: Literal["file.deleted"] = "file.deleted"
    file_id: str
    user: str


class UnknownEvent(BaseModel):
    """An event of a type, or of a version, that this process does not know."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str


_KNOWN: dict[str, int] = {
    "message.deleted": 1,
    **dict.fromkeys(("started", "metadata", "token", "tool_call", "tool_result"), 1),
    **dict.fromkeys(("summarized", "error", "done"), 1),
    **dict.fromkeys(("thread.created", "thread.updated", "thread.deleted", "message.posted"), 1),
    **dict.fromkeys(("participant.joined", "participant.left", "thread.read"), 1),
    **dict.fromkeys(("file.added", "file.passages", "file.deleted"), 1),
}


def _tag(value: Any) -> str:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        kind, version = fields.get("type"), fields.get("v", 1)
    else:
        kind, version = getattr(value, "type", None), getattr(value, "v", 1)
    if not isinstance(kind, str) or not isinstance(version, int):
        return "unknown"
    return kind if version <= _KNOWN.get(kind, 0) else "unknown"


Event = Annotated[
    Annotated[Started, Tag("started")]
    | Annotated[MetadataAdded, Tag("metadata")]
    | Annotated[Summarized, Tag("summarized")]
    | Annotated[Token, Tag("token")]
    | Annotated[ToolCall, Tag("tool_call")]
    | Annotated[ToolResult, Tag("tool_result")]
    | Annotated[ErrorRaised, Tag("error")]
    | Annotated[Done, Tag("done")]
    | Annotated[ThreadCreated, Tag("thread.created")]
    | Annotated[ThreadUpdated, Tag("thread.updated")]
    | Annotated[ThreadDeleted, Tag("thread.deleted")]
    | Annotated[MessagePosted, Tag("message.posted")]
    | Annotated[ParticipantJoined, Tag("participant.joined")]
    | Annotated[ParticipantLeft, Tag("participant.left")]
    | Annotated[ThreadRead, Tag("thread.read")]
    | Annotated[MessageDeleted, Tag("message.deleted")]
    | Annotated[FileAdded, Tag("file.added")]
    | Annotated[FilePassages, Tag("file.passages")]
    | Annotated[FileDeleted, Tag("file.deleted")]
    | Annotated[UnknownEvent, Tag("unknown")],
    Discriminator(_tag),
]
