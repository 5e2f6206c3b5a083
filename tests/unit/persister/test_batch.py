"""Entries of the log into columns for Postgres: to the letter, or not at all."""

from __future__ import annotations

import pytest

from services.persister.batch import SEPARATOR, RefusedEvent, read_batch
from shared.codec import encode
from shared.events import Started
from shared.read_model import jobs

TOKEN = {b"h": b"t", b"p": b"3", b"j": b"j", b"s": b"2", b"t": b"token", b"d": b'{"type":"token"}'}
STARTED = Started(job_id="j", seq=1, attempt=1, at="2026-01-02T03:04:05.678Z", agent="a", model="m")
BEGIN = {**TOKEN, b"p": b"2", b"s": b"1", b"t": b"started", b"d": encode(STARTED)}


def test_columns_are_the_fields_to_the_letter() -> None:
    odd = ' {"content" :  "\\ud83d\\ude00 \\u0000", "x":"😀"}\n'.encode()
    batch = read_batch([(b"17-0", TOKEN), (b"18-3", {**TOKEN, b"d": odd})])
    columns = {name: text.encode().split(SEPARATOR) for name, text in batch.columns.items()}
    assert columns == {
        "stream": [b"j", b"j"],
        "seq": [b"2", b"2"],
        "thread": [b"t", b"t"],
        "position": [b"3", b"3"],
        "type": [b"token", b"token"],
        "data": [TOKEN[b"d"], odd],
        "recorded_ms": [b"17", b"18"],
    }
    assert batch.last == (18, 3)


def test_only_events_that_are_not_tokens_are_read() -> None:
    batch = read_batch([(b"1-0", BEGIN), (b"1-1", {**TOKEN, b"d": b"not JSON"})])
    assert batch.read_model.rows[jobs]["j"]["status"] == "running"
    assert batch.positions == {"t": 2}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({name: value for name, value in TOKEN.items() if name != b"p"}, "field p is missing"),
        ({}, "field j is missing"),
        ({**TOKEN, b"d": b'{"content":"\xff"}'}, "not UTF-8"),
        ({**BEGIN, b"p": b"second"}, "position is not a number"),
        ({**BEGIN, b"d": b'{"type":"started"'}, "not an event: "),
        ({**BEGIN, b"d": b'{"type":"started","job_id":"j","seq":0}'}, "not an event: "),
        ({**BEGIN, b"t": b"done"}, "type: not that of the entry"),
    ],
)
def test_an_entry_that_is_no_event_is_refused(fields: dict[bytes, bytes], reason: str) -> None:
    with pytest.raises(RefusedEvent, match=reason):
        read_batch([(b"1-0", TOKEN), (b"2-0", fields)])


def test_a_reason_does_not_tell_what_was_said() -> None:
    fields = {**BEGIN, b"d": encode(STARTED).replace(b'"m"', b'["secret"]')}
    with pytest.raises(RefusedEvent) as refused:
        read_batch([(b"1-0", fields)])
    assert "secret" not in str(refused.value)
