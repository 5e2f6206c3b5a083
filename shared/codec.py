"""Between models, Redis entries and the wire.

An event is encoded once, by its writer, as the JSON that clients receive. Everything downstream
carries those bytes: a gateway builds a frame by joining them with a cursor, and parses nothing.

    model ──encode──▶ JSON bytes ──append──▶ thread stream  j s t d      (id = position)
                                       ├───▶ log            h p j s t d  (id = time)
                                       └───▶ channel        "p j s t d" lines, one per event

Fields: h thread id, p position, j the stream the seq counts in (a job id, or the thread id for
thread events), s seq, t type, d data. JSON never holds a raw newline, so lines need no escaping.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from shared.commands import Command
from shared.errors import CodecError
from shared.events import Event

_EVENT: TypeAdapter[Any] = TypeAdapter(Event)
_COMMAND: TypeAdapter[Any] = TypeAdapter(Command)


class Record(NamedTuple):
    """An event as it travels: where it stands, and its bytes."""

    position: int
    stream: str  # the job id, or the thread id for a thread event
    seq: int
    type: str
    data: bytes

    @property
    def is_final(self) -> bool:
        return self.type == "done"


def encode(message: BaseModel) -> bytes:
    """The JSON bytes of an event or command, fields in declared order."""
    return message.__pydantic_serializer__.to_json(message)


def encode_token(
    job_id: str, seq: int, attempt: int, *, at: str, content: str, deltas: int
) -> bytes:
    """What ``encode`` gives for a Token, without the model: most events are one.

    ``job_id`` and ``at`` are ours, and hold nothing that JSON escapes.
    """
    said = orjson.dumps(content)
    return (
        b'{"type":"token","job_id":"%b","seq":%d,"attempt":%d,"v":1,"at":"%b","content":%b,"deltas":%d}'
        % (job_id.encode(), seq, attempt, at.encode(), said, deltas)
    )


def decode_event(data: bytes | str) -> Any:
    """An event model; UnknownEvent for a type or version not known here.

    Raises CodecError for bytes that are not an event at all.
    """
    try:
        return _EVENT.validate_json(data)
    except ValidationError as error:
        raise CodecError(f"not an event: {_reason(error)}") from None


def decode_command(data: bytes | str) -> Any:
    """RunJob or CancelJob. Raises CodecError otherwise."""
    try:
        return _COMMAND.validate_json(data)
    except ValidationError as error:
        raise CodecError(f"not a command: {_reason(error)}") from None


def _reason(error: ValidationError) -> str:
    """The first complaint, without the input: it may hold what a user wrote."""
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"


def record_from_entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Record:
    """A record from an entry of a thread's stream, whose id is ``<position>-0``."""
    return Record(
        int(entry_id.split(b"-", 1)[0]),
        fields[b"j"].decode(),
        int(fields[b"s"]),
        fields[b"t"].decode(),
        fields[b"d"],
    )


def records_from_publish(payload: bytes) -> list[Record]:
    """The records of one publish, in order of position."""
    records: list[Record] = []
    for line in payload.split(b"\n"):
        position, stream, seq, kind, data = line.split(b" ", 4)
        records.append(Record(int(position), stream.decode(), int(seq), kind.decode(), data))
    return records


def sse_frame(cursor: int, record: Record) -> bytes:
    """One Server-Sent Event (WHATWG HTML §9.2). The data is one line of JSON."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (cursor, record.type.encode(), record.data)


def json_page(records: Iterable[Record]) -> bytes:
    """A JSON array of the records' data, joined without parsing."""
    return b"[" + b",".join(record.data for record in records) + b"]"
