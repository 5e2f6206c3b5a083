"""What clients send: the bodies of docs/protocol.md."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Final, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from services.api.described_json import INTEGER_MAX, NO_NUL, DescribedAsJson, given
from shared.commands import OnBusy
from shared.events import ThreadStatus

MESSAGE_CHARS_MAX: Final = 65_536
TITLE_CHARS_MAX: Final = 256
METADATA_BYTES_MAX: Final = 16 * 1024  # as JSON
METADATA_DEPTH_MAX: Final = 16
ATTACHMENTS_MAX: Final = 16  # of one message


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
FileIds = Annotated[
    list[Annotated[str, Field(max_length=128)]],
    Field(max_length=ATTACHMENTS_MAX),
    AfterValidator(lambda ids: list(dict.fromkeys(ids))),  # each one once
]


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
    attachments: FileIds = Field(default_factory=list[str])
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
