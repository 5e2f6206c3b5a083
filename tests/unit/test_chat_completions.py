"""Bytes to deltas: what is text, what is an end, what is a failure, wherever a read is cut."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.chat_completions import (
    DETAIL_CHARS_MAX,
    LINE_BYTES_MAX,
    ChunkDecoder,
    encode_request,
    refusal,
)
from services.orchestrator.model import (
    ChatMessage,
    Completion,
    ModelError,
    ModelInterrupted,
    ModelRefused,
    ModelRequest,
    ToolSpec,
    ToolUse,
    Usage,
)

KEY = "sk-very-secret"
DONE = b"data: [DONE]\n\n"


def chunk(content: str | None = None, *, reason: str | None = None, **rest: object) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: %b\n\n" % json.dumps({"choices": [choice], **rest}).encode()


@dataclass
class Outcome:
    text: str
    deltas: int
    end: Completion | tuple[str, str]


def decode(*reads: bytes) -> Outcome:
    decoder = ChunkDecoder(KEY)
    arrived = [decoder.feed(read) for read in reads]
    if not decoder.ended:
        arrived.append(decoder.feed_eof())
    deltas = [delta for delta in arrived if delta is not None]
    assert all(delta.content and delta.deltas for delta in deltas)
    try:
        end = decoder.end()
    except ModelError as error:
        end = (error.code, error.message)
    return Outcome("".join(d.content for d in deltas), sum(d.deltas for d in deltas), end)


lines = st.one_of(
    st.text(max_size=8).map(chunk),
    st.sampled_from(["t1 ", "naïve\0 ", "日本", "\ud83d", "\U0001f600", ""]).map(chunk),
    st.sampled_from(
        [
            b": ping\n\n",
            b"event: message\r\nid: 7\r\n\r\n",
            b"data:\n",
            b'data:{"choices":null}\r\n\r\n',
            b'data: {"choices":[{"delta":{"content":"bare"}}]}\r\n\r\n',
            b'data: {"choices":[{"index":1,"delta":{"content":"of another choice"}}]}\n\n',
            b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n',
            b'data: {"choices":[{"delta":{"tool_calls":{"id":"a","function":{"name":"f"}}}}]}\n\n',
            b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{"}}]}}]}\n\n',
            b'data: {"choices":[{"delta":{"tool_calls":"none"}}]}\n\n',
            chunk(reason="length"),
            chunk("last", reason="stop"),
            DONE,
            b'data: {"choi\n\n',
            b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n',
            b'data: {"choices":[{"delta":{"content":["no","text"]}}]}\n',
            b'data: ["no object"]\n',
            b'data: {"error":{"message":"overloaded","code":503}}\n\n',
            b'data: {"error":"broken"}\n\n',
            b"data: [DONE]",
            b'data: {"choices":[{"delta":{"content":"no line feed"}}]}',
        ]
    ),
)


@given(body=st.lists(lines, max_size=12).map(b"".join), data=st.data())
def test_any_split_of_the_bytes_gives_the_same_answer(body: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=30).map(sorted))
    bounds = [0, *cuts, len(body)]
    reads = [body[start:end] for start, end in pairwise(bounds)]
    assert decode(*reads) == decode(body)


@given(st.binary(max_size=300), st.sampled_from([b"", b"data: ", b'data: {"choices":']))
def test_no_garbage_raises_out_of_a_read(garbage: bytes, start: bytes) -> None:
    decode(start + garbage, b"\n" + garbage)


def test_an_answer_byte_by_byte() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    body = chunk("") + chunk("Hel") + chunk("lo") + chunk(reason="stop")
    body += b"data: %b\n\n" % json.dumps({"choices": [], "usage": usage}).encode() + DONE
    outcome = decode(*(body[i : i + 1] for i in range(len(body))))
    assert outcome == Outcome("Hello", 2, Completion("stop", Usage(9, 2, 11)))


def test_deltas_of_one_read_are_joined_and_counted() -> None:
    delta = ChunkDecoder().feed(
        chunk("a") + b": ping\n\n" + chunk("") + chunk("b") + chunk("c")[:9]
    )
    assert delta is not None
    assert (delta.content, delta.deltas) == ("ab", 2)


def test_nothing_after_the_end_mark_counts() -> None:
    assert decode(chunk("a") + DONE + chunk("b")).text == "a"


@pytest.mark.parametrize(
    ("body", "end"),
    [
        (chunk("a") + DONE, Completion("stop", None)),
        (chunk("a") + chunk(reason="length"), Completion("length", None)),
        (chunk("a") + chunk(reason="stop", usage={"prompt_tokens": "?"}), Completion("stop", None)),
        (chunk("a") + b"data: [DONE]", Completion("stop", None)),
    ],
)
def test_what_is_a_whole_answer(body: bytes, end: Completion) -> None:
    assert decode(body).end == end


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"", "no_final_chunk"),
        (b'data: {"choi\n\n', "undecodable"),
        (b'data: {"choices":[{"del', "undecodable"),
        (b'data: {"choices":7}\n\n', "undecodable"),
        (b"data: " + b"[" * 500_000 + b'"\\ud800"' + b"\n\n", "undecodable"),
        (b"data: " + b"x" * LINE_BYTES_MAX + b"\n\n", "line_too_long"),
        (b'data: {"error":{"message":"no more room"}}\n\n', "error_in_stream"),
    ],
)
def test_what_interrupts_keeps_the_text_before_it(tail: bytes, reason: str) -> None:
    decoder = ChunkDecoder()
    delta = decoder.feed(chunk("kept") + tail)
    assert delta is not None
    assert delta.content == "kept"
    if not decoder.ended:
        decoder.feed_eof()
    with pytest.raises(ModelInterrupted) as caught:
        decoder.end()
    assert caught.value.reason == reason
    assert caught.value.retryable


def test_an_endless_line_is_given_up_at_its_bound() -> None:
    decoder, block = ChunkDecoder(), b"x" * 65_536
    reads = 0
    while not decoder.ended:
        assert decoder.feed(block) is None
        reads += 1
    assert reads == LINE_BYTES_MAX // len(block) + 1


@pytest.mark.parametrize(("code", "retryable"), [(400, False), (429, True), (503, True)])
def test_an_error_in_the_stream_that_names_a_status_is_a_refusal(
    code: int, retryable: bool
) -> None:
    error = {"message": f"no, {KEY}", "type": "overloaded_error", "code": code}
    decoder = ChunkDecoder(KEY)
    decoder.feed(b"data: %b\n\n" % json.dumps({"error": error}).encode())
    with pytest.raises(ModelRefused) as caught:
        decoder.end()
    refused = caught.value
    assert (refused.status, refused.retryable, refused.kind) == (
        code,
        retryable,
        "overloaded_error",
    )
    assert refused.detail == "no, [api key]"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a\0b", "ab"),
        ("\0", ""),
        ("half \ud83d pair", "half \ufffd pair"),
        ("\U0001f600", "\U0001f600"),
        (" \t\r\nuntouched\u2028 ", " \t\r\nuntouched\u2028 "),
    ],
)
def test_only_what_cannot_be_stored_is_replaced(content: str, text: str) -> None:
    outcome = decode(chunk(content) + DONE)
    assert (outcome.text, outcome.deltas) == (text, int(bool(text)))


def test_a_request_names_the_stream_and_wins_over_parameters() -> None:
    body = orjson.loads(
        encode_request(
            ModelRequest(
                messages=[ChatMessage("system", "be brief"), ChatMessage("user", "hi")],
                model="m",
                temperature=0.5,
                parameters={"top_p": 0.9, "stream": False, "temperature": 2, "model": "other"},
            )
        )
    )
    assert body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hi"},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_request_tells_of_tools_and_of_what_they_said() -> None:
    spec = ToolSpec("find", "Finds.", {"type": "object"})
    said = [
        ChatMessage("user", "hi"),
        ChatMessage("assistant", "let me see", tool_uses=[ToolUse("a", "find", "{}")]),
        ChatMessage("tool", "nothing", tool_use_id="a"),
    ]
    body = orjson.loads(encode_request(ModelRequest(said, "m", tools=[spec])))
    called = {"id": "a", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    assert body["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "let me see", "tool_calls": [called]},
        {"role": "tool", "content": "nothing", "tool_call_id": "a"},
    ]
    function = {"name": "find", "description": "Finds.", "parameters": {"type": "object"}}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body["tool_choice"] == "auto"
    last = encode_request(ModelRequest(said, "m", tools=[spec], must_answer=True))
    assert orjson.loads(last)["tool_choice"] == "none"
    assert "tools" not in orjson.loads(encode_request(ModelRequest(said, "m", must_answer=True)))


def test_the_tools_of_an_answer_are_known_at_its_end() -> None:
    piece = {"index": 0, "id": "a", "function": {"name": "find", "arguments": "{}"}}
    asked = b"data: %b\n\n" % json.dumps({"choices": [{"delta": {"tool_calls": [piece]}}]}).encode()
    end = decode(chunk("let me see") + asked + chunk(reason="tool_calls") + DONE).end
    assert end == Completion("tool_calls", None, (ToolUse("a", "find", "{}"),))
    assert decode(b'data: {"choices":[{"delta":{"tool_calls":[7]}}]}\n\n').end == (
        "model_interrupted",
        "the model's answer was interrupted (undecodable)",
    )


@pytest.mark.parametrize(
    ("body", "kind", "detail"),
    [
        (b'{"error":{"message":"too long","type":"t","code":"length"}}', "length", "too long"),
        (b'{"error":{"message":"m","type":"a sentence, not a name"}}', None, "m"),
        (b'{"error":{"message":"m","code":"%b"}}' % KEY.encode(), None, "m"),
        (b'{"error":"' + b"x" * 9000 + b'"}', None, "x" * DETAIL_CHARS_MAX),
        (b"<html>" + KEY.encode(), None, "<html>[api key]"),
        (b'{"detail":"no such route"}', None, '{"detail":"no such route"}'),
        (b"\xff", None, "\ufffd"),
        (b"", None, ""),
    ],
)
def test_a_refusal_keeps_the_providers_words_out_of_its_message(
    body: bytes, kind: str | None, detail: str
) -> None:
    error = refusal(400, body, secret=KEY)
    assert (error.kind, error.detail) == (kind, detail)
    named = f"400, {kind}" if kind else "400"
    assert str(error) == f"the model server refused the request ({named})"
