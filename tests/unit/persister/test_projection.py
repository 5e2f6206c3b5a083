"""What events mean for rows, and that their order and repetition mean nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.codec import decode_event, encode
from shared.errors import CodecError
from shared.events import (
    Done,
    MessagePosted,
    ParticipantJoined,
    ParticipantLeft,
    Started,
    Summarized,
    ThreadCreated,
    ThreadDeleted,
    ThreadRead,
    ThreadUpdated,
    Token,
    UnknownEvent,
)
from shared.projection import Progress, Projection, Row, key_of, merge
from shared.read_model import (
    PROJECTED,
    Merge,
    jobs,
    messages,
    participants,
    summaries,
    threads,
)
from tests.unit.persister.histories import History, Placed, deliveries, histories

AT = "2026-01-02T03:04:05.678Z"
TIME = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
POSTED = MessagePosted(
    thread_id="t",
    at=AT,
    message_id="question",
    job_id="j",
    reply_id="answer",
    user="alice",
    content="hello",
    agent="poet",
    trace_id="trace",
)
STARTED = Started(job_id="j", seq=1, attempt=1, at=AT, agent="poet", model="m")
DONE = Done(
    job_id="j",
    seq=2,
    attempt=1,
    at=AT,
    status="done",
    content="hi",
    message_id="answer",
    finish_reason="stop",
    latency_ms=1,
)


def project(*events: Any) -> Projection:
    """The events, at positions 1, 2, 3 …"""
    projection = Projection()
    for position, event in enumerate(events, start=1):
        projection.add("t", position, event)
    return projection


def rows(projection: Projection) -> dict[str, dict[str, Row]]:
    """By table; a column that is None is one that nothing is known of."""
    return {
        table.name: {
            key: {name: value for name, value in row.items() if value is not None}
            for key, row in found.items()
        }
        for table, found in projection.rows.items()
    }


@given(st.data())
def test_any_delivery_comes_to_the_rows_of_the_history(data: st.DataObject) -> None:
    told = data.draw(histories())
    in_order = [(history.thread_id, record) for history in told for record in history.records]
    whole = project_placed(in_order)
    folded = Projection()
    for batch in data.draw(deliveries(told)):
        for table, found in project_placed(batch).rows.items():
            for key, row in found.items():
                known = folded.rows[table].get(key)
                folded.rows[table][key] = row if known is None else merge(table, known, row)
    assert rows(folded) == rows(whole)


def project_placed(events: list[Placed]) -> Projection:
    projection = Projection()
    for thread_id, record in events:
        projection.add(thread_id, record.position, decode_event(record.data))
    return projection


def test_a_question_begins_its_job_and_names_the_author_of_the_answer() -> None:
    projection = project(POSTED)
    assert projection.rows[messages]["question"] == {
        "message_id": "question",
        "thread_id": "t",
        "job_id": "j",
        "role": "user",
        "author": "alice",
        "content": "hello",
        "metadata": {},
        "position": 1,
        "created_at": TIME,
        "asker": "alice",
        "terms": "'hello':1",
    }
    assert projection.rows[messages]["answer"]["author"] == "poet"
    assert "role" not in projection.rows[messages]["answer"], "not a message yet"
    assert projection.rows[jobs]["j"] == {
        "job_id": "j",
        "thread_id": "t",
        "owner": "alice",
        "message_id": "question",
        "reply_id": "answer",
        "agent": "poet",
        "trace_id": "trace",
        "status": "queued",
        "first_position": 1,
        "created_at": TIME,
    }
    assert projection.rows[threads]["t"]["updated_at"] == TIME


def test_the_newest_summary_of_a_thread_is_kept() -> None:
    first = Summarized(job_id="j", seq=2, attempt=1, at=AT, content="early\0", upto=1, as_of=2)
    second = first.model_copy(update={"seq": 3, "content": "later"})
    assert project(POSTED, first, second).rows[summaries] == {
        "t": {
            "thread_id": "t",
            "summary": {"content": "later", "upto": 1, "as_of": 2},
            "summary_position": 3,
        }
    }
    [row] = project(first).rows[summaries].values()
    assert row["summary"]["content"] == "early\ufffd"


def test_the_end_of_a_job_is_its_answer() -> None:
    projection = project(POSTED, STARTED, DONE)
    answer = projection.rows[messages]["answer"]
    assert (answer["role"], answer["author"], answer["content"]) == ("assistant", "poet", "hi")
    assert (answer["status"], answer["finish_reason"], answer["position"]) == ("done", "stop", 3)
    assert (answer["asker"], answer["terms"]) == ("alice", "'hi':1")
    job = projection.rows[jobs]["j"]
    assert (job["status"], job["attempt"], job["finished_at"]) == ("done", 1, TIME)


def test_a_late_start_does_not_reopen_a_job() -> None:
    assert project(DONE, STARTED, POSTED).rows[jobs]["j"]["status"] == "done"


def test_a_job_nobody_began_leaves_no_message() -> None:
    unbegun = DONE.model_copy(update={"status": "cancelled", "attempt": 0, "content": ""})
    projection = project(POSTED, unbegun)
    assert "role" not in projection.rows[messages]["answer"]
    assert projection.rows[jobs]["j"]["status"] == "cancelled"


@pytest.mark.parametrize(
    "change", [{"attempt": 1}, {"content": "partial"}, {"status": "failed"}], ids=str
)
def test_an_empty_answer_of_another_kind_is_a_message(change: dict[str, Any]) -> None:
    unbegun = {"status": "cancelled", "attempt": 0, "content": ""}
    projection = project(POSTED, DONE.model_copy(update={**unbegun, **change}))
    assert projection.rows[messages]["answer"]["role"] == "assistant"


def test_the_highest_position_has_the_last_word_on_a_thread() -> None:
    projection = Projection()
    projection.add("t", 7, ThreadUpdated(thread_id="t", at=AT, status="archived"))
    projection.add("t", 5, ThreadUpdated(thread_id="t", at=AT, title="new", status="active"))
    projection.add("t", 1, ThreadCreated(thread_id="t", at=AT, owner="alice", title="old"))
    row = projection.rows[threads]["t"]
    assert (row["title"], row["title_position"]) == ("new", 5)
    assert (row["status"], row["status_position"]) == ("archived", 7)
    assert (row["metadata"], row["owner"]) == ({}, "alice")


def test_an_empty_title_is_none() -> None:
    created = ThreadCreated(thread_id="t", at=AT, owner="alice", title="old")
    row = project(created, ThreadUpdated(thread_id="t", at=AT, title="")).rows[threads]["t"]
    assert (row["title"], row["title_position"]) == (None, 2)


def test_a_deletion_is_remembered() -> None:
    row = project(ThreadDeleted(thread_id="t", at=AT)).rows[threads]["t"]
    assert row["deleted_at"] == TIME


def test_the_last_word_says_whether_a_participant_is_in() -> None:
    projection = Projection()
    for position, kind in ((4, ParticipantLeft), (7, ParticipantJoined), (2, ParticipantJoined)):
        projection.add("t", position, kind(thread_id="t", at=AT, user="bob"))
    assert projection.rows[participants]["t bob"] == {
        "participant_id": "t bob",
        "thread_id": "t",
        "user_id": "bob",
        "present": True,
        "present_position": 7,
        "read_position": 7,
    }
    assert projection.rows[threads]["t"]["updated_at"] == TIME


def test_reading_goes_onward_and_does_not_touch_the_thread() -> None:
    projection = Projection()
    for position, upto in ((9, 8), (7, 3)):
        read = ThreadRead(thread_id="t", at=AT, user="bob", message_id="m", upto=upto)
        projection.add("t", position, read)
    assert projection.rows[participants]["t bob"]["read_position"] == 8
    assert projection.rows[threads] == {}


def test_other_events_are_not_projected() -> None:
    token = Token(job_id="j", seq=2, attempt=1, at=AT, content="hi", deltas=1)
    assert rows(project(token, UnknownEvent(type="later"))) == rows(Projection())


def test_a_nul_is_replaced_wherever_it_stands() -> None:
    event = POSTED.model_copy(update={"content": "a\0b", "metadata": {"x\0": ["\0", {"y": "\0"}]}})
    question = project(decode_event(encode(event))).rows[messages]["question"]
    assert question["content"] == "a\ufffdb"
    assert question["metadata"] == {"x\ufffd": ["\ufffd", {"y": "\ufffd"}]}


@pytest.mark.parametrize("at", ["yesterday", "", "2026-01-02T03:04:05"])
def test_a_time_that_is_none_is_refused(at: str) -> None:
    with pytest.raises(CodecError, match="at: "):
        project(STARTED.model_copy(update={"at": at}))


def test_progress_counts_rows_and_keeps_the_highest() -> None:
    projection = Projection()
    for progress in (Progress("t", "j", 9, 4, 2), Progress("t", "j", 6, 2, 1)):
        projection.advance(progress)
    projection.advance(Progress("t", "t", 5, 3, 3))
    assert projection.rows[threads]["t"] == {
        "thread_id": "t",
        "position": 9,
        "event_count": 6,
        "seq": 3,
    }
    assert projection.rows[jobs]["j"] == {
        "job_id": "j",
        "thread_id": "t",
        "last_seq": 4,
        "event_count": 3,
    }


def test_a_copy_changes_nothing_of_what_it_was_made_from() -> None:
    start = project(POSTED)
    before = rows(start)
    copy = Projection(start)
    copy.add("t", 2, DONE)
    copy.advance(Progress("t", "j", 2, 1, 1))
    assert rows(start) == before


@pytest.mark.parametrize("table", PROJECTED, ids=lambda table: table.name)
def test_every_column_but_the_key_has_a_rule(table: Any) -> None:
    names = {column.name for column in table.columns if "merge" not in column.info}
    assert names == {key_of(table)}
    for column in table.columns:
        if column.info.get("merge") is Merge.NEWEST:
            assert table.c[f"{column.name}_position"].info["merge"] is Merge.GREATEST


def test_histories_are_what_the_log_could_hold() -> None:
    """The generator is a test's foundation: positions and seqs have no hole."""

    @given(histories())
    def check(told: list[History]) -> None:
        for history in told:
            assert [r.position for r in history.records] == list(range(1, len(history.records) + 1))
            for stream in {record.stream for record in history.records}:
                seqs = [record.seq for record in history.records if record.stream == stream]
                assert seqs == list(range(1, len(seqs) + 1))

    check()
