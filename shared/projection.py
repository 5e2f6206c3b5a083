"""What an event means for the read model: events into rows. No I/O.

    event ──▶ partial rows ──▶ folded: one row per key ──▶ upserted by the persister
                                                      └──▶ laid over Postgres' rows by a gateway

A row holds the columns that are known, under the names of ``shared.read_model``, and every column
is folded by the rule that stands there. So events may be added in any order, in any batches and
again: the rows come out the same. (Counts excepted: ``Progress`` tells of new archive rows only.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import Table

from shared.errors import CodecError
from shared.events import (
    Done,
    FileAdded,
    FileDeleted,
    FilePassages,
    MessageDeleted,
    MessagePosted,
    ParticipantJoined,
    ParticipantLeft,
    Started,
    Summarized,
    ThreadCreated,
    ThreadDeleted,
    ThreadRead,
    ThreadUpdated,
)
from shared.read_model import (
    PROJECTED,
    Merge,
    file_passages,
    files,
    jobs,
    messages,
    participants,
    summaries,
    threads,
)
from shared.search_terms import vector_of
from shared.states import JOB_STATUSES

Row = dict[str, Any]

REPLACEMENT: Final = "\ufffd"  # for U+0000, which a text column cannot hold


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch brings one stream: its highest position and seq, and its new archive rows."""

    thread_id: str
    stream_id: str
    position: int
    seq: int
    added: int


class Projection:
    """Rows by table and primary key, folded from what is added."""

    def __init__(self, start: Projection | None = None) -> None:
        """Empty, or a copy of ``start`` that can be added to without changing it."""
        self.rows: dict[Table, dict[str, Row]] = {
            table: dict(start.rows[table]) if start else {} for table in PROJECTED
        }

    def add(self, thread_id: str, position: int, event: object) -> None:
        """Fold in one event model; a type that is not projected changes nothing.

        Raises CodecError when a time in it is none.
        """
        for table, row in _rows(thread_id, position, event):
            self._fold(table, _storable(row))

    def include(self, other: Projection) -> None:
        """Fold in what another one was told."""
        for table, rows in other.rows.items():
            for row in rows.values():
                self._fold(table, row)

    def advance(self, progress: Progress) -> None:
        """Fold in how far a stream has come."""
        thread: Row = {"thread_id": progress.thread_id, "position": progress.position}
        thread["event_count"] = progress.added
        if progress.stream_id == progress.thread_id:
            thread["seq"] = progress.seq
        else:
            job = {"job_id": progress.stream_id, "thread_id": progress.thread_id}
            counts = {"last_seq": progress.seq, "event_count": progress.added}
            self._fold(jobs, {**job, **counts})
        self._fold(threads, thread)

    def _fold(self, table: Table, row: Row) -> None:
        rows, key = self.rows[table], row[key_of(table)]
        known = rows.get(key)
        rows[key] = row if known is None else merge(table, known, row)


def key_of(table: Table) -> str:
    """The name of a table's one key column."""
    return table.primary_key.columns[0].name


def merge(table: Table, known: Row, said: Row) -> Row:
    """Two rows of one key as one, by the rules of the table's columns."""
    result = dict(known)
    for name, value in said.items():
        old, how = known.get(name), table.c[name].info.get("merge")
        if how is Merge.NEWEST:
            at = f"{name}_position"
            result[name] = value if said[at] > known.get(at, 0) else old
        elif how is not None and value is not None:
            result[name] = value if old is None else _RULES[how](old, value)
    return result


def _later(status: str, other: str) -> str:
    return max(status, other, key=JOB_STATUSES.index)


_RULES: Final[dict[Merge, Callable[[Any, Any], Any]]] = {
    Merge.ONCE: lambda old, _: old,
    Merge.LEAST: min,
    Merge.GREATEST: max,
    Merge.ONWARD: _later,
    Merge.SUM: lambda old, new: old + new,
}


def _rows(thread_id: str, position: int, event: object) -> Iterator[tuple[Table, Row]]:
    """The rows an event speaks of, with what it says about them."""
    match event:
        case ThreadCreated() | ThreadUpdated() | ThreadDeleted():
            yield threads, {"thread_id": thread_id, **_thread(position, event)}
        case ParticipantJoined() | ParticipantLeft() | ThreadRead():
            yield from _participation(thread_id, position, event)
        case MessageDeleted():
            row = {"message_id": event.message_id, "job_id": event.job_id, "thread_id": thread_id}
            when = {"deleted_at": _time(event.at), "deleted_position": position}
            yield messages, {**row, **when}
        case MessagePosted():
            yield from _posted(thread_id, position, event)
        case Started():
            row = {"status": "running", "attempt": event.attempt, "started_at": _time(event.at)}
            yield jobs, {"job_id": event.job_id, "thread_id": thread_id, **row}
        case Done():
            yield from _done(thread_id, position, event)
        case _:
            yield from _beside(thread_id, position, event)


def _beside(thread_id: str, position: int, event: object) -> Iterator[tuple[Table, Row]]:
    """What stands beside the messages."""
    match event:
        case FileAdded() | FileDeleted() | FilePassages():
            yield from _of_file(thread_id, position, event)
        case Summarized():
            summary = event.model_dump(include={"content", "upto", "as_of"})
            row = {"thread_id": thread_id, "summary": summary, "summary_position": position}
            yield summaries, row
        case _:
            return


def _thread(position: int, event: ThreadCreated | ThreadUpdated | ThreadDeleted) -> Row:
    at = _time(event.at)
    row: Row = {"updated_at": at}
    if isinstance(event, ThreadDeleted):
        return {**row, "deleted_at": at}
    said: Row = {"title": event.title, "metadata": event.metadata}
    if isinstance(event, ThreadCreated):
        row |= {"owner": event.owner, "agent": event.agent, "created_at": at}
        said["status"] = "active"
    else:
        said["status"] = event.status
    for name, value in said.items():
        if value is not None:
            row |= {name: None if value == "" else value, f"{name}_position": position}
    return row


def _participation(
    thread_id: str, position: int, event: ParticipantJoined | ParticipantLeft | ThreadRead
) -> Iterator[tuple[Table, Row]]:
    row = _key_of_participant(thread_id, event.user)
    if isinstance(event, ThreadRead):
        yield participants, {**row, "read_position": event.upto}
        return
    yield threads, {"thread_id": thread_id, "updated_at": _time(event.at)}
    row |= {"present": isinstance(event, ParticipantJoined), "present_position": position}
    if isinstance(event, ParticipantJoined):
        row["read_position"] = position
    yield participants, row


def _key_of_participant(thread_id: str, user: str) -> Row:
    return {"participant_id": f"{thread_id} {user}", "thread_id": thread_id, "user_id": user}


def _posted(thread_id: str, position: int, event: MessagePosted) -> Iterator[tuple[Table, Row]]:
    at, of_job = _time(event.at), {"thread_id": thread_id, "job_id": event.job_id}
    yield threads, {"thread_id": thread_id, "updated_at": at}
    question = {"role": "user", "author": event.user, "content": event.content}
    question |= {"metadata": event.metadata, "position": position, "created_at": at}
    question |= {"terms": vector_of(_storable(event.content))}
    if event.attachments:
        question |= {"attachments": [each.model_dump() for each in event.attachments]}
    if event.replaces is not None:
        question |= {"replaces": event.replaces, "replaced_position": event.replaced_position}
    asked = {**of_job, "asker": event.user}
    yield messages, {"message_id": event.message_id, **asked, **question}
    yield messages, {"message_id": event.reply_id, **asked, "author": event.agent}
    job = event.model_dump(include={"message_id", "reply_id", "agent", "trace_id"})
    job |= {"owner": event.user, "status": "queued", "first_position": position, "created_at": at}
    yield jobs, {**of_job, **job}


def _done(thread_id: str, position: int, event: Done) -> Iterator[tuple[Table, Row]]:
    at, of_job = _time(event.at), {"thread_id": thread_id, "job_id": event.job_id}
    yield threads, {"thread_id": thread_id, "updated_at": at}
    yield jobs, {**of_job, "status": event.status, "attempt": event.attempt, "finished_at": at}
    if event.status == "cancelled" and event.attempt == 0 and not event.content:
        return  # nobody began it, nothing was said: there is no message
    answer = event.model_dump(include={"content", "status", "finish_reason", "usage"})
    answer |= {"role": "assistant", "position": position, "created_at": at}
    answer |= {"terms": vector_of(_storable(event.content))}
    yield messages, {"message_id": event.message_id, **of_job, **answer}


def _of_file(
    thread_id: str, position: int, event: FileAdded | FileDeleted | FilePassages
) -> Iterator[tuple[Table, Row]]:
    of_file: Row = {"file_id": event.file_id, "thread_id": thread_id}
    if isinstance(event, FilePassages):
        for number, text in enumerate(event.texts, event.first):
            passage = {"number": number, "text": text, "terms": vector_of(_storable(text))}
            yield file_passages, {"passage_id": f"{event.file_id} {number}", **of_file, **passage}
        return
    at = _time(event.at)
    if isinstance(event, FileDeleted):
        yield files, {**of_file, "deleted_at": at}
        return
    yield threads, {"thread_id": thread_id, "updated_at": at}
    facts = event.model_dump(include={"name", "media_type", "size", "sha256", "has_thumbnail"})
    facts |= {"user_id": event.user, "position": position, "created_at": at}
    yield files, {**of_file, **facts}


def _time(at: str) -> datetime:
    try:
        time = datetime.fromisoformat(at)
    except ValueError:
        raise CodecError("at: not a time") from None
    if time.tzinfo is None:
        raise CodecError("at: a time without its zone")
    return time


def _storable(value: Any) -> Any:
    """The value with every U+0000 replaced, however deep."""
    match value:
        case str():
            return value.replace("\0", REPLACEMENT)
        case dict():
            items = cast("dict[Any, Any]", value).items()
            return {_storable(name): _storable(inner) for name, inner in items}
        case list():
            return [_storable(inner) for inner in cast("list[Any]", value)]
        case _:
            return value
