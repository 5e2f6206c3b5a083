"""What must be true of any history of events, whoever read it and wherever: pure functions.

`records` is what one reader saw of one thread, in the order of seeing. Each check raises
AssertionError with the record that breaks the promise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from shared.codec import Record
from shared.ids import is_job_id


def check_thread_history(records: Sequence[Record]) -> None:
    """Positions 1..n without hole; every job of the thread keeps the promises of a job."""
    for place, record in enumerate(records, start=1):
        assert record.position == place, f"position {place} is missing or repeated: {record}"
    for stream in dict.fromkeys(record.stream for record in records):
        events = [record for record in records if record.stream == stream]
        check_contiguous(events)
        if is_job_id(stream):
            check_job_history(events)


def check_contiguous(records: Iterable[Record]) -> None:
    for seq, record in enumerate(records, start=1):
        assert record.seq == seq, f"seq {seq} is missing or repeated: {record}"


def check_job_history(records: Sequence[Record]) -> None:
    """Attempts never fall and begin with `started`; one `done` at most, last; its text adds up."""
    attempt, text = 0, ""
    for place, record in enumerate(records, start=1):
        event = json.loads(record.data)
        assert event["attempt"] >= attempt, f"an earlier attempt speaks: {record}"
        if event["attempt"] > attempt:
            assert record.type == "started", f"an attempt does not begin with started: {record}"
        if record.type == "started":
            assert event["attempt"] == attempt + 1, f"an attempt is missing or repeated: {record}"
            attempt, text = event["attempt"], ""
        if record.type == "token":
            text += event["content"]
        if record.is_final:
            assert place == len(records), f"done is not last: {record}"
            assert event["content"] == text, f"the tokens do not add up to the answer: {record}"
