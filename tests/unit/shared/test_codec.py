"""Codec: what is written is what is read, whoever wrote it, and always one line."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import events as known
from shared.codec import (
    Record,
    decode_command,
    decode_event,
    encode,
    json_page,
    record_from_entry,
    records_from_publish,
    sse_frame,
)
from shared.commands import CancelJob, RunJob
from shared.errors import CodecError
from shared.events import Event, Token, UnknownEvent

unhurried = settings(deadline=None, print_blob=True)
AWKWARD = ("\n", "\r", "\r\n", "\u2028", "\u2029", "\u0085", "\x00", "𝄞", "\\", '"', "data: x\n\n")
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(AWKWARD)
numbers = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
metadata = st.dictionaries(text, values, max_size=3)
maybe_text = st.none() | text
counts = st.integers(1, 2**31)
job = {"job_id": text, "seq": counts, "attempt": st.integers(0, 99), "at": text}
thread = {"thread_id": text, "at": text}
tool = {"tool_call_id": text, "name": text}
usage = st.builds(known.Usage, prompt_tokens=counts, completion_tokens=counts)
statuses = st.sampled_from(["done", "failed", "cancelled"])
posted = {
    **dict.fromkeys(["message_id", "job_id", "reply_id", "user", "agent"], text),
    **{"content": text, "metadata": metadata, "trace_id": text, "session_id": maybe_text},
}
FIELDS: dict[Any, dict[str, Any]] = {
    known.Started: {**job, "agent": text, "model": text},
    known.MetadataAdded: {**job, "metadata": metadata},
    known.Token: {**job, "content": text, "deltas": counts},
    known.ToolCall: {**job, **tool, "arguments": metadata},
    known.ToolResult: {**job, **tool, "content": text, "is_error": st.booleans()},
    known.ErrorRaised: {**job, "code": text, "message": text, "retryable": st.booleans()},
    known.Summarized: {
        **job,
        "content": text,
        "upto": counts,
        "as_of": counts,
        "usage": st.none() | usage,
    },
    known.Done: {
        **job,
        "status": statuses,
        "content": text,
        "message_id": text,
        "finish_reason": maybe_text,
        "usage": st.none() | usage,
        "latency_ms": counts,
    },
    known.ThreadCreated: {
        **thread,
        "owner": text,
        "title": maybe_text,
        "agent": maybe_text,
        "metadata": metadata,
    },
    known.ThreadUpdated: {**thread, "title": maybe_text, "metadata": st.none() | metadata},
    known.ThreadDeleted: thread,
    known.ParticipantJoined: {**thread, "user": text},
    known.ParticipantLeft: {**thread, "user": text},
    known.MessageDeleted: {**thread, "message_id": text, "job_id": text, "user": text},
    known.FileAdded: {
        **thread,
        **{name: text for name in ("file_id", "user", "name", "media_type", "sha256")},
        "size": st.integers(1, 2**40),
        "has_thumbnail": st.booleans(),
        "passages": st.integers(0, 9),
    },
    known.FilePassages: {
        **thread,
        "file_id": text,
        "first": st.integers(1, 99),
        "texts": st.lists(text, max_size=3).map(tuple),
    },
    known.FileDeleted: {**thread, "file_id": text, "user": text},
    known.ThreadRead: {**thread, "user": text, "message_id": text, "upto": counts},
    known.MessagePosted: {**thread, **posted},
}
some_event = st.one_of([st.builds(model, **fields) for model, fields in FIELDS.items()])
some_command = st.builds(RunJob, **thread, **posted) | st.builds(CancelJob, job_id=text)
words = st.from_regex(r"[a-z_.0-9]{1,20}", fullmatch=True)
json_bytes = values.map(lambda value: json.dumps(value, ensure_ascii=False).encode())
records = st.builds(
    Record,
    position=counts,
    stream=words,
    seq=counts,
    type=words,
    data=json_bytes,
)
TOKEN = Token(job_id="job_1", seq=2, attempt=1, at="now", content="x", deltas=1)


@unhurried
@given(some_event)
def test_an_event_survives_the_wire(event: Any) -> None:
    data = encode(event)
    assert decode_event(data) == event
    assert encode(decode_event(data)) == data


@unhurried
@given(some_command)
def test_a_command_survives_the_wire(command: RunJob | CancelJob) -> None:
    assert decode_command(encode(command)) == command


@unhurried
@given(some_event | some_command)
def test_what_is_written_is_one_line_that_any_parser_reads(message: Any) -> None:
    data = encode(message)
    assert b"\n" not in data
    assert b"\r" not in data
    assert json.loads(data)["type"] == message.type


def test_every_event_type_is_tried() -> None:
    """A type that is added to the union must be added to this module."""
    union = get_args(Event)[0]
    assert {get_args(member)[0] for member in get_args(union)} == {*FIELDS, UnknownEvent}


@unhurried
@given(words, st.integers(1, 99), metadata)
def test_a_type_nobody_knows_is_kept_whole(kind: str, version: int, fields: dict[str, Any]) -> None:
    data = {**fields, "type": f"x.{kind}", "v": version}
    event = decode_event(json.dumps(data))
    assert isinstance(event, UnknownEvent)
    assert json.loads(encode(event)) == data


@unhurried
@given(st.integers(2, 99), metadata)
def test_a_known_type_of_a_higher_version_is_kept_whole(version: int, more: dict[str, Any]) -> None:
    data = {**more, **json.loads(encode(TOKEN)), "content": [more], "v": version}
    event = decode_event(json.dumps(data))
    assert isinstance(event, UnknownEvent)
    assert json.loads(encode(event)) == data


def test_a_field_that_a_newer_writer_added_is_passed_over() -> None:
    data = json.loads(encode(TOKEN)) | {"added": 1}
    assert decode_event(json.dumps(data)) == TOKEN


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b"{}",
        b'{"v":1}',
        b'{"type":1}',
        b'{"type":null}',
        b'{"type":"token"}',
        b'{"type":"token","job_id":"j","seq":0,"attempt":1,"at":"","content":"c"}',
        b'{"type":"done","job_id":"j","seq":1,"attempt":-1,"at":""}',
        b'{"type":"thread.created","thread_id":"t","at":"a","owner":"\xff"}',
        b'{"type":"x","a":"\\ud800"}',
    ],
)
def test_bytes_that_are_no_event_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError, match="not an event"):
        decode_event(data)


@unhurried
@given(st.binary(max_size=40))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    for decode in (decode_event, decode_command):
        try:
            message = decode(data)
        except CodecError:
            continue
        assert json.loads(data)["type"] == message.type


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"type":"Fly"}', b'{"type":"RunJob"}', encode(TOKEN)]
)
def test_bytes_that_are_no_command_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError, match="not a command"):
        decode_command(data)


def test_a_refusal_does_not_repeat_what_a_user_wrote() -> None:
    secret = "what a user wrote"
    data = json.dumps(
        {"type": "token", "job_id": [secret], "seq": secret, "content": {"a": secret}}
    )
    with pytest.raises(CodecError) as refused:
        decode_event(data)
    assert secret not in str(refused.value)
    assert "job_id" in str(refused.value)


@unhurried
@given(records)
def test_a_record_is_read_from_an_entry(record: Record) -> None:
    fields = {
        b"j": record.stream.encode(),
        b"s": b"%d" % record.seq,
        b"t": record.type.encode(),
        b"d": record.data,
    }
    assert record_from_entry(b"%d-0" % record.position, fields) == record


def published(records: list[Record]) -> bytes:
    """As `append` in prelude.lua joins its lines."""
    return b"\n".join(
        b"%d %b %d %b %b"
        % (one.position, one.stream.encode(), one.seq, one.type.encode(), one.data)
        for one in records
    )


@unhurried
@given(st.lists(records, min_size=1, max_size=4))
def test_records_are_read_from_a_publish(sent: list[Record]) -> None:
    assert records_from_publish(published(sent)) == sent


@unhurried
@given(counts, records)
def test_a_frame_is_one_event_with_one_line_of_data(cursor: int, record: Record) -> None:
    frame = sse_frame(cursor, record).decode()
    assert parse_sse(frame) == [(str(cursor), record.type, record.data.decode())]


@pytest.mark.parametrize("content", AWKWARD)
def test_awkward_text_stays_in_its_frame(content: str) -> None:
    event = TOKEN.model_copy(update={"content": content})
    record = Record(7, "job_1", 2, "token", encode(event))
    [(cursor, kind, data)] = parse_sse(sse_frame(7, record).decode())
    assert (cursor, kind) == ("7", "token")
    assert json.loads(data)["content"] == content


def parse_sse(stream: str) -> list[tuple[str, str, str]]:
    """Events as a browser sees them (WHATWG HTML §9.2.6): id, type, data."""
    lines = stream.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    events: list[tuple[str, str, str]] = []
    fields: dict[str, list[str]] = {}
    for line in lines[:-1]:
        if not line:
            events.append(
                ("".join(fields["id"]), "".join(fields["event"]), "\n".join(fields["data"]))
            )
            fields = {}
            continue
        name, _, value = line.partition(":")
        fields.setdefault(name, []).append(value.removeprefix(" "))
    assert not fields, "a frame without its end"
    return events


@unhurried
@given(st.lists(records, max_size=4))
def test_a_page_is_an_array_of_the_data(page: list[Record]) -> None:
    assert json.loads(json_page(page)) == [json.loads(record.data) for record in page]


@pytest.mark.parametrize(("kind", "final"), [("done", True), ("error", False), ("token", False)])
def test_only_done_is_final(kind: str, final: bool) -> None:
    assert Record(1, "job_1", 1, kind, b"{}").is_final is final
