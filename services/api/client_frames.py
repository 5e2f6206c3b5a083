"""What a WebSocket's client sends: one JSON object a frame, told apart by its type."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from services.api.bodies import AgentName, FileIds, Metadata, PostMessage, Text
from services.api.problems import FIELDS_MAX, Told
from shared.commands import OnBusy

FRAME_ID_CHARS_MAX: Final = 255  # as an Idempotency-Key
FrameId = Annotated[str, Field(min_length=1, max_length=FRAME_ID_CHARS_MAX, pattern=r"^[!-~]+$")]
_FRAME_ID: Final = TypeAdapter[str](FrameId)


class ClientFrame(BaseModel):
    """``id`` comes back in the answer. Unknown fields are refused, as in a request's body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: FrameId | None = None


class MessageFrame(ClientFrame):
    """As `PostMessage`; ``id`` is its Idempotency-Key."""

    type: Literal["message"]
    content: Text | None = None
    replaces: str | None = Field(None, max_length=64)
    agent: AgentName | None = None
    attachments: FileIds = Field(default_factory=list[str])
    metadata: Metadata = Field(default_factory=dict)
    on_busy: OnBusy = "enqueue"


class FileFrame(ClientFrame):
    """A message about a file that was uploaded before."""

    type: Literal["file"]
    file_id: str = Field(max_length=128)
    message: Text


class CancelFrame(ClientFrame):
    """Of one job; without it, of all that this session has asked here."""

    type: Literal["cancel"]
    job_id: str | None = Field(None, max_length=64)


class ResumeFrame(ClientFrame):
    """Go on behind a position, wherever this socket is."""

    type: Literal["resume"]
    after: int = Field(ge=0, lt=10**15)


class TypingFrame(ClientFrame):
    type: Literal["typing"]
    is_typing: bool


class PingFrame(ClientFrame):
    type: Literal["ping"]


Frame = MessageFrame | FileFrame | CancelFrame | ResumeFrame | TypingFrame | PingFrame
_TYPES: Final = frozenset({"message", "file", "cancel", "resume", "typing", "ping"})
_FRAME: Final[TypeAdapter[Any]] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])


class BadFrame(Exception):
    """Not a frame; ``frame_id`` is its own, if it can be made out."""

    def __init__(self, frame_id: str | None, told: Told) -> None:
        super().__init__(told.detail)
        self.frame_id, self.told = frame_id, told


def read_frame(text: str) -> Frame:
    """Raises BadFrame."""
    try:
        return _FRAME.validate_json(text, strict=True)
    except ValidationError as error:
        raise BadFrame(_id_in(text), _told(error)) from None


def posted(frame: MessageFrame | FileFrame) -> PostMessage:
    """The body of the same request over HTTP. Raises BadFrame."""
    body = frame.model_dump(exclude={"type", "id"})
    if isinstance(frame, FileFrame):
        body = {"content": frame.message, "attachments": [frame.file_id]}
    try:
        return PostMessage.model_validate(body)
    except ValidationError as error:
        raise BadFrame(frame.id, _told(error)) from None


def _told(error: ValidationError) -> Told:
    """Which field, and what is wrong with it; never the value."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    errors = [{"field": _field(item["loc"]), "message": item["msg"]} for item in found[:FIELDS_MAX]]
    return Told("invalid_request", "The frame is not valid.", more={"errors": errors})


def _field(place: tuple[int | str, ...]) -> str:
    """Without the frame's type, which a place in it begins with."""
    return ".".join(map(str, place[1:] if place[:1] and place[0] in _TYPES else place)) or "frame"


def _id_in(text: str) -> str | None:
    """What the answer to a frame that is not one may be told by."""
    try:
        return _FRAME_ID.validate_python(from_json(text)["id"])
    except (ValueError, LookupError, TypeError):
        return None
