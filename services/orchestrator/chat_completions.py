"""The wire format of Chat Completions: a request to bytes, bytes to deltas. No I/O.

    data: {"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}
    data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
    data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}
    data: [DONE]

Only what servers send is read: one JSON object per ``data:`` line. Comments, other fields and empty
lines are skipped. Where a read ends has no effect on the text, nor on the failure it ends with.

Failures are kept, not raised, until the deltas before them are handed out: text that arrived
together with its failure is not lost.
"""

from __future__ import annotations

import json
import re
from typing import cast

import orjson

from services.orchestrator.model import (
    ChatMessage,
    Completion,
    Delta,
    ModelError,
    ModelInterrupted,
    ModelRefused,
    ModelRequest,
    ToolSpec,
    Usage,
)
from services.orchestrator.tool_pieces import ToolPieces

LINE_BYTES_MAX = 1 << 20
DETAIL_CHARS_MAX = 500
FINISH_REASON_CHARS_MAX = 64
ERROR_STATUSES = range(400, 600)

# Named by some servers as the end although they gave no reason for it.
FINISH_REASON_DEFAULT = "stop"

_LINE_FEED = b"\n"
_DATA_FIELD = b"data:"
_END_OF_ANSWER = b"[DONE]"
_NUL = "\0"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

JsonObject = dict[str, object]
_NO_FIELDS: JsonObject = {}


def encode_request(request: ModelRequest) -> bytes:
    """The body of a streaming request. Named fields win over ``parameters``."""
    body: JsonObject = {**request.parameters}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    body |= {
        "model": request.model,
        "messages": [_message(said) for said in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [_function(spec) for spec in request.tools]
        body["tool_choice"] = "none" if request.must_answer else "auto"
    return orjson.dumps(body)


def _message(said: ChatMessage) -> JsonObject:
    message: JsonObject = {"role": said.role, "content": said.content}
    if said.tool_uses:
        message["tool_calls"] = [
            {
                "id": use.id,
                "type": "function",
                "function": {"name": use.name, "arguments": use.arguments},
            }
            for use in said.tool_uses
        ]
    if said.tool_use_id:
        message["tool_call_id"] = said.tool_use_id
    return message


def _function(spec: ToolSpec) -> JsonObject:
    function = {"name": spec.name, "description": spec.description, "parameters": spec.parameters}
    return {"type": "function", "function": function}


class ChunkDecoder:
    """Feeds on reads of any size and gives their text; holds at most one unfinished line.

    Feed until ``ended``, then ask ``end``. ``secret`` is cut out of a provider's error text.
    """

    __slots__ = (
        "_closed",
        "_failure",
        "_finish_reason",
        "_held",
        "_held_bytes",
        "_secret",
        "_tools",
        "_usage",
    )

    def __init__(self, secret: str = "") -> None:
        self._secret = secret
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._tools = ToolPieces()
        self._failure: ModelError | None = None
        self._closed = False

    @property
    def ended(self) -> bool:
        """Nothing more can come: the end was read, or a failure."""
        return self._closed

    @property
    def complete(self) -> bool:
        """The model said that it has finished; only the bookkeeping may be missing."""
        return self._finish_reason is not None

    def feed(self, data: bytes) -> Delta | None:
        """The text in ``data``, or None if it brought none. Never raises."""
        cut = data.rfind(_LINE_FEED)
        if cut < 0:
            self._hold(data)
            return None
        lines = b"".join((*self._held, data[:cut])) if self._held else data[:cut]
        self._held, self._held_bytes = [], 0
        texts: list[str] = []
        try:
            for line in lines.split(_LINE_FEED):
                if self._closed:
                    break
                self._take_line(line, texts)
            self._hold(data[cut + 1 :])
        except ModelError as failure:
            self._fail(failure)
        return Delta("".join(texts), len(texts)) if texts else None

    def feed_eof(self) -> Delta | None:
        """The body has ended: its last line may lack the line feed. Never raises."""
        delta = self.feed(_LINE_FEED)
        self._closed = True
        return delta

    def end(self) -> Completion:
        """How the answer ended. Raises the ModelError that ended it."""
        if self._failure is not None:
            raise self._failure
        if self._finish_reason is None:
            raise ModelInterrupted("no_final_chunk")
        return Completion(self._finish_reason, self._usage, self._tools.whole())

    def _hold(self, data: bytes) -> None:
        if data and not self._closed:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > LINE_BYTES_MAX:
                self._fail(ModelInterrupted("line_too_long"))

    def _fail(self, failure: ModelError) -> None:
        self._failure = failure
        self._closed = True
        self._held = []

    def _take_line(self, line: bytes, texts: list[str]) -> None:
        if len(line) > LINE_BYTES_MAX:
            raise ModelInterrupted("line_too_long")
        if not line.startswith(_DATA_FIELD):
            return
        payload = line[len(_DATA_FIELD) :]
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            chunk = self._take_oddity(payload.strip())
        try:
            self._take_chunk(_object(chunk), texts)
        except ValueError:
            raise ModelInterrupted("undecodable") from None

    def _take_oddity(self, payload: bytes) -> object:
        """What is no JSON to a strict reader: the end mark, nothing, half a surrogate pair."""
        if payload == _END_OF_ANSWER:
            self._finish_reason = self._finish_reason or FINISH_REASON_DEFAULT
            self._closed = True
        elif payload:
            try:
                return _loads_with_lone_surrogates(payload)
            except (ValueError, RecursionError):
                raise ModelInterrupted("undecodable") from None
        return None

    def _take_chunk(self, chunk: JsonObject, texts: list[str]) -> None:
        if error := chunk.get("error"):
            raise stream_error(error, self._secret)
        for choice in _objects(chunk.get("choices")):
            if not choice.get("index"):
                self._take_choice(choice, texts)
        if usage := chunk.get("usage"):
            self._usage = _usage(_object(usage))

    def _take_choice(self, choice: JsonObject, texts: list[str]) -> None:
        delta = _object(choice.get("delta"))
        if pieces := delta.get("tool_calls"):
            self._tools.add(pieces)
        if content := delta.get("content"):
            if not isinstance(content, str):
                raise ValueError("content is no text")
            # Postgres text cannot hold U+0000, and no reader misses it.
            if text := content.replace(_NUL, "") if _NUL in content else content:
                texts.append(text)
        if reason := choice.get("finish_reason"):
            self._finish_reason = str(reason)[:FINISH_REASON_CHARS_MAX]


def stream_error(error: object, secret: str) -> ModelError:
    """An ``error`` inside a stream: a refusal if it names a status, else an interruption."""
    kind, detail = _describe(error, secret)
    status = cast("JsonObject", error).get("code") if isinstance(error, dict) else None
    if isinstance(status, int) and status in ERROR_STATUSES:
        return ModelRefused(status, kind=kind, detail=detail)
    return ModelInterrupted("error_in_stream", detail)


def refusal(
    status: int, body: bytes, *, retry_after: float | None = None, secret: str = ""
) -> ModelRefused:
    """The error of a response that is not 200. ``body`` is whatever the server said."""
    try:
        error = _object(orjson.loads(body)).get("error")
    except ValueError:
        error = None
    kind, detail = _describe(error or body.decode(errors="replace"), secret)
    return ModelRefused(status, kind=kind, retry_after=retry_after, detail=detail)


def _describe(error: object, secret: str) -> tuple[str | None, str]:
    """The provider's name for an error, if it is an identifier, and its words, cut."""
    fields = cast("JsonObject", error) if isinstance(error, dict) else _NO_FIELDS
    words = fields.get("message") or cast("object", error)
    detail = _without(secret, str(words))[:DETAIL_CHARS_MAX]
    for name in (fields.get("code"), fields.get("type")):
        if isinstance(name, str) and _IDENTIFIER.fullmatch(_without(secret, name)):
            return name, detail
    return None, detail


def _without(secret: str, text: str) -> str:
    return text.replace(secret, "[api key]") if secret else text


def _object(value: object) -> JsonObject:
    if isinstance(value, dict):
        return cast("JsonObject", value)
    if value is None:
        return _NO_FIELDS
    raise ValueError("not an object")


def _objects(value: object) -> list[JsonObject]:
    if isinstance(value, list):
        return [_object(item) for item in cast("list[object]", value)]
    if value is None:
        return []
    raise ValueError("not a list")


def _usage(fields: JsonObject) -> Usage | None:
    """None for a shape that is not understood: an answer is worth more than its bill."""
    prompt, completion = fields.get("prompt_tokens"), fields.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completion, int):
        return None
    total = fields.get("total_tokens")
    return Usage(prompt, completion, total if isinstance(total, int) else prompt + completion)


def _loads_with_lone_surrogates(payload: bytes) -> object:
    """A strict parser refuses half a surrogate pair, which some servers send; U+FFFD replaces it.

    Raises ValueError, and RecursionError for absurd nesting.
    """
    lenient = json.dumps(json.loads(payload), ensure_ascii=False)
    return orjson.loads(_LONE_SURROGATE.sub("\ufffd", lenient))
