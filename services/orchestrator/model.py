"""The model port: what a graph may ask of a language model, and how that can fail.

No I/O here. An adapter (``openai_compatible``) speaks HTTP; the graph sees only these names.

    request ──stream──▶ ModelStream ──▶ Delta, Delta, …, end ──▶ .completion

A stream yields text only. The tools that the model asks for are known when the answer ends, so they
stand in ``Completion``; the ``Delta`` of the token path stays as small as it is.

Failures

    ModelError
    ├── ModelUnreachable   model_unreachable    retryable   no connection, or lost before an answer
    ├── ModelTimedOut      model_timeout        retryable   the server was silent, see `phase`
    ├── ModelRefused       model_rate_limited   retryable   429
    │                      model_refused        by status   408, 409 and 5xx are worth another try
    └── ModelInterrupted   model_interrupted    retryable   the answer broke off, see `reason`

``code`` is stable and may be shown to clients, and so may ``message``: it never holds the API key,
what was asked, or free text of the provider. ``detail`` is for an operator: it never holds the key,
but a provider's own words may quote what was asked, and it names hosts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import ClassVar, Literal, Protocol

from shared.errors import HeadwaterError

Role = Literal["system", "user", "assistant", "tool"]
TimeoutPhase = Literal["connect", "first_token", "between_tokens"]
Interruption = Literal[
    "closed", "undecodable", "line_too_long", "no_final_chunk", "error_in_stream"
]

RETRYABLE_STATUSES = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is told of it; ``parameters`` is a JSON schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool that the model asks for; ``arguments`` are JSON as it wrote them, perhaps none."""

    id: str  # '' when the server gave none
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of the context handed to the model.

    ``tool_uses`` are the assistant's; ``tool_use_id`` says which of them a tool's message answers.
    """

    role: Role
    content: str
    tool_uses: Sequence[ToolUse] = ()
    tool_use_id: str = ""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question. ``parameters`` go to the provider as they are, below every named field."""

    messages: Sequence[ChatMessage]
    model: str
    temperature: float | None = None
    max_tokens: int | None = None
    parameters: Mapping[str, object] = field(default_factory=dict[str, object])
    tools: Sequence[ToolSpec] = ()
    must_answer: bool = False  # with words: it is told of the tools, and that it gets none


@dataclass(frozen=True, slots=True)
class Delta:
    """The text of all deltas that arrived in one network read, joined; never empty.

    ``deltas`` counts them, so that tokens can be told from reads. Holds no U+0000.
    """

    content: str
    deltas: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the provider counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """How an answer ended. ``usage`` is None when the provider sent none.

    With ``tool_uses`` it is to go on once the model has been given what they answer.
    """

    finish_reason: str
    usage: Usage | None
    tool_uses: Sequence[ToolUse] = ()


class ModelStream(Protocol):
    """An answer on its way. Iterate once, from one coroutine; nobody reads ahead of the caller."""

    def __aiter__(self) -> AsyncIterator[Delta]: ...

    async def __anext__(self) -> Delta: ...

    @property
    def completion(self) -> Completion | None:
        """None until iteration has ended without an error."""
        ...


class Model(Protocol):
    """A language model that streams."""

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelStream]:
        """Ask. Entering waits for the first token, or for the end of an answer without text.

        Entering may try several times; once it has returned nothing is tried again, and iteration
        yields each delta once. Leaving, also by an exception or a cancellation and at any await,
        aborts the connection to the model at once; after a complete answer it is kept for the next.

        Raises ModelError, from entering and from iteration.
        """
        ...


class ModelError(HeadwaterError):
    """The model gave no complete answer.

    ``code`` is a stable identifier, ``message`` one sentence for people, ``retryable`` tells
    whether the same request may succeed later; ``detail``, of bounded length, is not for clients.
    """

    def __init__(self, code: str, message: str, *, retryable: bool, detail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.detail = detail


class ModelUnreachable(ModelError):
    """No connection to the model server, or it was lost before the answer began."""

    CODE: ClassVar = "model_unreachable"

    def __init__(self, detail: str = "") -> None:
        super().__init__(
            self.CODE, "the model server cannot be reached", retryable=True, detail=detail
        )


class ModelTimedOut(ModelError):
    """The model server was silent for longer than the bound of ``phase``."""

    CODE: ClassVar = "model_timeout"

    def __init__(self, phase: TimeoutPhase, seconds: float) -> None:
        words = phase.replace("_", " ")
        super().__init__(
            self.CODE, f"the model server timed out ({words}, {seconds:g} s)", retryable=True
        )
        self.phase: TimeoutPhase = phase


class ModelRefused(ModelError):
    """The model server answered with an error status.

    ``retry_after`` is in seconds, as asked for by the server. ``kind`` is the provider's name for
    the error, such as ``context_length_exceeded``: an identifier, never a sentence.
    """

    CODE: ClassVar = "model_refused"
    CODE_RATE_LIMITED: ClassVar = "model_rate_limited"

    def __init__(
        self,
        status: int,
        *,
        kind: str | None = None,
        retry_after: float | None = None,
        detail: str = "",
    ) -> None:
        limited = status == HTTPStatus.TOO_MANY_REQUESTS
        named = f"{status}, {kind}" if kind else f"{status}"
        super().__init__(
            self.CODE_RATE_LIMITED if limited else self.CODE,
            f"the model server refused the request ({named})",
            retryable=status in RETRYABLE_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR,
            detail=detail,
        )
        self.status = status
        self.kind = kind
        self.retry_after = retry_after


class ModelInterrupted(ModelError):
    """The answer began but did not end as one."""

    CODE: ClassVar = "model_interrupted"

    def __init__(self, reason: Interruption, detail: str = "") -> None:
        words = reason.replace("_", " ")
        super().__init__(
            self.CODE,
            f"the model's answer was interrupted ({words})",
            retryable=True,
            detail=detail,
        )
        self.reason: Interruption = reason
