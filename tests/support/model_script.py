"""What the model server answers: a script written in the name of the model that is asked for.

    fake                                  16 tokens "t1 t2 … t16 ", at once
    fake:tokens=200,delay_ms=20           paced: a token every 20 ms
    fake:cut_after=5,times=1              the first request breaks off, later ones are whole
    fake:call=now~{}                      asks for a tool first; more of it in ``model_calls``
    fake:tokens=200,stamped               each token tells when it was sent

Any name that does not begin with ``fake`` is a plain ``fake``. A script becomes pieces: the bytes
of each write and how many tokens they carry. Nothing here touches a socket.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal

import orjson

from tests.support.model_calls import call_deltas
from tests.support.model_request import Request

TOKENS_MAX = 100_000
LINE_BYTES_MAX = 64 << 20
PIECE_BYTES_MAX = 64 << 10
PER_WRITE_DEFAULT = 64  # when nothing paces the tokens

Ending = Literal["keep", "cut", "hang"]
Piece = tuple[bytes, int]  # what to write, and the tokens in it

STAMP = b"#########"  # the moment comes here when it is sent: microseconds, CLOCK_MONOTONIC,
STAMPS = 1_000_000_000  # modulo this

CREATED = 1_760_000_000
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"
HALF_JSON = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"cont\n\n'
BAD_UTF8 = b'data: {"choices":[{"index":0,"delta":{"content":"\xff\xfe"}}]}\n\n'


@dataclass(frozen=True, slots=True)
class Script:
    """The options of a model name. Below ``times`` they are faults."""

    tokens: int = 16
    delay_ms: float = 0.0  # between two writes
    first_ms: float = -1.0  # before the first token; as delay_ms if negative
    per_write: int = 0  # tokens per write; 0: one if paced, else many
    echo: bool = False  # answer with the contents of the messages
    nul: bool = False  # every token holds a U+0000
    stamped: bool = False  # every token is the moment it was sent
    end_ms: float = 0.0  # between [DONE] and the end of the HTTP body
    id: str = ""  # tells apart scripts that are otherwise equal
    call: str = ""  # tools to ask for before the answer, if there are any
    call_rounds: int = 1  # so often; negative: for ever
    call_after: int = 0  # tokens before each
    call_shape: str = "split"
    stubborn: bool = False  # asks for tools also when there are none
    fault_round: int = -1  # of tools, in which alone it has the faults
    round: int = 0  # of tools, that this answer belongs to; of the request, not of the name
    times: int = -1  # the faults hit that many requests, then never again; negative: all

    slow_headers_ms: float = 0.0
    hang_before_first: bool = False
    hang_after: int = -1
    cut_after: int = -1
    half_json_after: int = -1
    bad_utf8_after: int = -1
    error_in_stream_after: int = -1
    error_code: int = 500  # of error_in_stream_after
    no_final: bool = False  # neither finish_reason nor [DONE]
    no_finish: bool = False  # [DONE] only
    no_done: bool = False  # finish_reason only
    long_line: int = 0  # bytes of the one line sent instead of tokens
    status: int = 0  # refuse with this status
    retry_after: str = ""  # of status

    def without_faults(self) -> Script:
        """What a request gets after ``times`` of them had the faults."""
        kept = ("tokens", "delay_ms", "first_ms", "per_write", "echo", "nul", "end_ms", "id")
        kept += ("stamped", "call", "call_rounds", "call_after", "call_shape", "stubborn", "round")
        return Script(**{name: getattr(self, name) for name in kept})

    def answering(self, request: Request) -> Script:
        """What is left of it when some rounds of tools are over: an answer, or another call."""
        if 0 <= self.fault_round != request.rounds:
            return replace(self, fault_round=-1).without_faults().answering(request)
        is_over = 0 <= self.call_rounds <= request.rounds
        if not self.call or is_over or not (request.may_call or self.stubborn):
            return replace(self, call="")
        return replace(self, tokens=self.call_after, echo=False, round=request.rounds)

    @property
    def ending(self) -> Ending:
        if self.cut_after >= 0:
            return "cut"
        return "hang" if self.hang_before_first or self.hang_after >= 0 else "keep"


def parse(model: str) -> Script:
    """The script in a model's name. Raises ValueError for an option that does not exist."""
    name, _, options = model.partition(":")
    script = Script()
    if name != "fake" or not options:
        return script
    kinds = {field.name: type(field.default) for field in fields(Script)}
    for option in options.split(","):
        key, equals, value = option.partition("=")
        if key not in kinds:
            raise ValueError(f"no such option: {key}")
        script = replace(script, **{key: kinds[key](value) if equals else True})
    if script.tokens > TOKENS_MAX or script.long_line > LINE_BYTES_MAX:
        raise ValueError(f"at most {TOKENS_MAX} tokens and lines of {LINE_BYTES_MAX} bytes")
    return script


def echo_words(contents: Iterable[str]) -> list[str]:
    """The contents, joined by line feeds, as tokens: words with the space behind them."""
    return re.findall(r"\S+\s*|\s+", "\n".join(contents))


@lru_cache(maxsize=64)
def counted_pieces(script: Script, model: str) -> Sequence[Piece]:
    """The writes of a script whose words do not depend on the request."""
    if script.stamped:
        return pieces(script, model, [f"{STAMP.decode()} "] * script.tokens)
    nul = "\0" if script.nul else ""
    return pieces(script, model, [f"t{number}{nul} " for number in range(1, script.tokens + 1)])


def pieces(script: Script, model: str, words: Sequence[str]) -> Sequence[Piece]:
    """The writes between the head and the close, one HTTP chunk per event as real servers do."""
    if script.long_line:
        return _split(_chunk(_event(model, {"content": "x" * script.long_line})))
    events = [(_chunk(_event(model, {"content": word})), 1) for word in words]
    if script.call:
        deltas = call_deltas(script.call, script.call_shape, script.round)
        events += [(_chunk(_event(model, delta)), 0) for delta in deltas]
    for count, ending in (
        (script.half_json_after, [(_chunk(HALF_JSON), 0)]),
        (script.bad_utf8_after, [(_chunk(BAD_UTF8), 0)]),
        (script.error_in_stream_after, [(_chunk(_error_event(script.error_code)), 0)]),
        (script.hang_after, []),
        (script.cut_after, []),
        (0 if script.hang_before_first else -1, []),
    ):
        if count >= 0:
            events = events[:count] + ending
    size = script.per_write or (1 if script.delay_ms else PER_WRITE_DEFAULT)
    groups = (events[start : start + size] for start in range(0, len(events), size))
    return [(b"".join(data for data, _ in group), sum(n for _, n in group)) for group in groups]


def stamped(data: bytes) -> bytes:
    """A piece of a ``stamped`` script that is sent now."""
    return data.replace(STAMP, b"%09d" % (time.monotonic_ns() // 1000 % STAMPS))


def opening(model: str) -> bytes:
    """Response head and the delta that only names the role."""
    return HEAD + _chunk(_event(model, {"role": "assistant", "content": ""}))


def closing(script: Script, model: str, *, prompt_tokens: int, tokens: int) -> bytes:
    """What follows the last token; the HTTP body then ends with ``LAST_CHUNK``."""
    if script.ending != "keep" or script.no_final or script.error_in_stream_after >= 0:
        return b""
    events: list[bytes] = []
    if not script.no_finish:
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
        }
        reason = "tool_calls" if script.call else "stop"
        events += [_event(model, {}, finish_reason=reason), _usage_event(model, usage)]
    if not script.no_done:
        events.append(b"data: [DONE]\n\n")
    return b"".join(map(_chunk, events))


def _frame(model: str, rest: dict[str, object]) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
    }
    return b"data: %b\n\n" % orjson.dumps(chunk | rest)


def _event(model: str, delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _frame(model, {"choices": [choice]})


def _usage_event(model: str, usage: dict[str, int]) -> bytes:
    return _frame(model, {"choices": [], "usage": usage})


def _error_event(code: int) -> bytes:
    error = {"message": "the model broke", "type": "server_error", "code": code}
    return b"data: %b\n\n" % orjson.dumps({"error": error})


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _split(data: bytes) -> Sequence[Piece]:
    return [
        (data[start : start + PIECE_BYTES_MAX], 0) for start in range(0, len(data), PIECE_BYTES_MAX)
    ]
