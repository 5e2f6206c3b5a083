"""The tables: the archive of events, and the read model made from it.

`events` is the archive and the truth; it is only ever added to. Everything else is a projection of
it: rows may be dropped and made again. Each of their columns says, beside its type, how two values
become one (``Merge``), in ways that do not depend on the order or repetition of batches; the
projection folds by these rules in memory, and the persister's statements are generated from them.

A row may appear before the event that names its owner has been projected, because batches come in
any order, and the row of an answer is begun by its question, which knows the author. Readers see a
thread once `owner` is set, and a message once `role` is set.

Whether the archive has all of a thread is a matter of counting: positions are 1..n without hole, so
`event_count = position` says that nothing is missing in front. The same holds for a job's seq.

The archive is divided by when a job was born, which its id says (``born``):

    events ─┬─ events_lasting    what belongs to threads, for ever; jobs from before the division
            ├─ events_20261121   jobs born in a period, which begins that day
            └─ events_unplaced   jobs of no period, as of a clock that is far off: mostly empty

So an event has one place, whenever and however often it comes, and the key of each part holds for
all of them. Periods that are kept no longer are dropped whole; of their jobs `settled` says how far
they went, and their rows in the read model are all there is (``services.persister.expiry``).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB, TSVECTOR

metadata = MetaData()


class Merge(StrEnum):
    """How a column's value and another one become one. Unknown (NULL) gives way to known."""

    ONCE = "once"  # one event says it: whichever is known
    LEAST = "least"
    GREATEST = "greatest"
    NEWEST = "newest"  # said at the higher position, which stands in `<column>_position`
    ONWARD = "onward"  # the later of two job statuses
    SUM = "sum"  # a count of archive rows, fed with rows that are new


def merged(how: Merge) -> dict[str, Any]:
    """The ``info`` of a column that is merged so."""
    return {"merge": how}


ONCE, LEAST, GREATEST = merged(Merge.ONCE), merged(Merge.LEAST), merged(Merge.GREATEST)
NEWEST, ONWARD, SUM = merged(Merge.NEWEST), merged(Merge.ONWARD), merged(Merge.SUM)
_TIME = DateTime(timezone=True)
PRESENT = text("present")  # of a participant
DELETED = text("deleted_position IS NOT NULL")  # of a message
UNFINISHED = text("status = ANY (ARRAY['queued', 'running'])")  # of a job
SCHEMA_REVISION = "0008"  # the oldest one that this code works with


def born(stream_id: str) -> str:
    """SQL for when a stream began: of a job's the milliseconds, as its id has them (12 hexadecimal
    digits); '' for a thread's. A query with an equality of it looks into one part of the archive.
    """
    begun = f"CASE left({stream_id}, 4) WHEN 'job_' THEN substr({stream_id}, 7, 12) ELSE '' END"
    return f'(({begun}) COLLATE "C")'


def _number(name: str, kind: type[Integer], info: dict[str, Any]) -> Column[int]:
    """A column that counts from 0."""
    return Column(name, kind, nullable=False, server_default=text("0"), info=info)


events = Table(
    "events",
    metadata,
    Column("stream_id", Text, nullable=False),  # the job's id, or the thread's for thread events
    Column("seq", Integer, nullable=False),
    Column("thread_id", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", JSON, nullable=False),  # json, not jsonb: the bytes clients saw, to the letter
    Column("recorded_at", _TIME, nullable=False),  # when the log took it
    # Each part has its own primary key (stream_id, seq): of the whole Postgres would ask for more.
    Index("events_by_position", "thread_id", "position"),
    Index("events_by_time", "recorded_at", postgresql_using="brin"),
    postgresql_partition_by=f"RANGE ({born('stream_id')})",
)

settled = Table(
    "settled",  # jobs whose events are kept no longer
    metadata,
    Column("thread_id", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("position", BigInteger, nullable=False),  # of the last of them
    Column("seq", Integer, nullable=False),
    Column("event_count", Integer, nullable=False),
    PrimaryKeyConstraint("thread_id", "job_id"),
)

threads = Table(
    "threads",
    metadata,
    Column("thread_id", Text, primary_key=True),
    Column("owner", Text, info=ONCE),
    Column("title", Text, info=NEWEST),
    _number("title_position", BigInteger, GREATEST),
    Column("metadata", JSONB, info=NEWEST),
    _number("metadata_position", BigInteger, GREATEST),
    Column("status", Text, info=NEWEST),
    _number("status_position", BigInteger, GREATEST),
    Column("agent", Text, info=ONCE),
    Column("created_at", _TIME, info=ONCE),
    Column("updated_at", _TIME, info=GREATEST),  # of its newest message, answer or change
    Column("deleted_at", _TIME, info=LEAST),
    _number("position", BigInteger, GREATEST),  # the highest
    _number("seq", Integer, GREATEST),  # the highest
    _number("event_count", BigInteger, SUM),
    Index("threads_by_activity", "owner", text("updated_at DESC"), text("thread_id DESC")),
)

messages = Table(
    "messages",
    metadata,
    Column("message_id", Text, primary_key=True),
    Column("thread_id", Text, nullable=False, info=ONCE),
    Column("job_id", Text, nullable=False, info=ONCE),
    Column("role", Text, info=ONCE),  # user | assistant
    Column("author", Text, info=ONCE),  # the user, or the agent
    Column("content", Text, info=ONCE),
    Column("metadata", JSONB, info=ONCE),
    Column("status", Text, info=ONCE),  # of an assistant's message: done | failed | cancelled
    Column("finish_reason", Text, info=ONCE),
    Column("usage", JSONB, info=ONCE),
    Column("position", BigInteger, info=ONCE),
    Column("created_at", _TIME, info=ONCE),
    Column("deleted_at", _TIME, info=LEAST),
    Column("deleted_position", BigInteger, info=LEAST),  # of the event that says so
    Column("replaces", Text, info=ONCE),  # of a question: an earlier one,
    Column("replaced_position", BigInteger, info=ONCE),  # which stands here
    Column("asker", Text, info=ONCE),  # the user who asked, of the question and of its answer
    Column("terms", TSVECTOR, info=ONCE),  # what it is found by: shared.search_terms
    Column("attachments", JSONB, info=ONCE),  # of a question: files of the thread
    Index("messages_by_position", "thread_id", "position"),
    Index("messages_by_job", "job_id"),
    Index("messages_deleted", "thread_id", "deleted_position", postgresql_where=DELETED),
    # One index of both: a word that everybody uses costs a user only what is theirs of it.
    Index(
        "messages_by_term",
        text("(ARRAY[asker])"),
        "terms",
        postgresql_using="gin",
        postgresql_where=text("role IS NOT NULL"),
    ),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("thread_id", Text, nullable=False, info=ONCE),
    Column("owner", Text, info=ONCE),
    Column("message_id", Text, info=ONCE),
    Column("reply_id", Text, info=ONCE),
    Column("agent", Text, info=ONCE),
    Column("trace_id", Text, info=ONCE),
    Column("status", Text, info=ONWARD),  # queued | running | done | failed | cancelled
    _number("attempt", Integer, GREATEST),
    _number("last_seq", Integer, GREATEST),
    _number("event_count", Integer, SUM),
    Column("first_position", BigInteger, info=ONCE),  # of its message.posted
    Column("created_at", _TIME, info=ONCE),
    Column("started_at", _TIME, info=LEAST),
    Column("finished_at", _TIME, info=ONCE),
    Index("jobs_by_thread", "thread_id", "first_position"),
    Index("jobs_unfinished", "job_id", postgresql_where=UNFINISHED),
)

participants = Table(
    "participants",  # of the owner too, once they have read something
    metadata,
    Column("participant_id", Text, primary_key=True),  # the thread's id and the user's
    Column("thread_id", Text, nullable=False, info=ONCE),
    Column("user_id", Text, nullable=False, info=ONCE),
    Column("present", Boolean, info=NEWEST),  # whether the user is let in
    _number("present_position", BigInteger, GREATEST),
    _number("read_position", BigInteger, GREATEST),  # of the last message they have read
    Index("participants_by_thread", "thread_id"),
    Index("participants_by_user", "user_id", postgresql_where=PRESENT),
)

summaries = Table(
    "summaries",  # of a thread's beginning: the newest one
    metadata,
    Column("thread_id", Text, primary_key=True),
    Column("summary", JSONB, info=NEWEST),  # content, upto, as_of
    _number("summary_position", BigInteger, GREATEST),
)

files = Table(
    "files",
    metadata,
    Column("file_id", Text, primary_key=True),
    Column("thread_id", Text, nullable=False, info=ONCE),
    Column("user_id", Text, info=ONCE),  # who added it
    Column("name", Text, info=ONCE),
    Column("media_type", Text, info=ONCE),
    Column("size", BigInteger, info=ONCE),  # bytes
    Column("sha256", Text, info=ONCE),
    Column("has_thumbnail", Boolean, info=ONCE),
    Column("position", BigInteger, info=ONCE),
    Column("created_at", _TIME, info=ONCE),
    Column("deleted_at", _TIME, info=LEAST),
    Index("files_by_thread", "thread_id"),
)

file_passages = Table(
    "file_passages",
    metadata,
    Column("passage_id", Text, primary_key=True),  # the file's id and the number
    Column("file_id", Text, nullable=False, info=ONCE),
    Column("thread_id", Text, nullable=False, info=ONCE),
    Column("number", Integer, info=ONCE),  # in its file, from 1 on
    Column("text", Text, info=ONCE),
    Column("terms", TSVECTOR, info=ONCE),
    Index("file_passages_by_file", "file_id", "number"),
    # Also of both: a word of everybody's files costs a thread only what is its own.
    Index("file_passages_by_term", text("(ARRAY[thread_id])"), "terms", postgresql_using="gin"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("partition", SmallInteger, primary_key=True, autoincrement=False),
    Column("log_ms", BigInteger, nullable=False),  # the highest log entry projected: <ms>-<n>
    Column("log_n", BigInteger, nullable=False),
    Column("event_count", BigInteger, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Column("life", Text),  # of Redis, in which batches must have been read; any, if never restored
)

NOT_SAID = ("asker", "terms", "deleted_position")
SAID = tuple(column for column in messages.c if column.name not in NOT_SAID)

# What a rebuild drops and makes again.
PROJECTED = (threads, messages, jobs, participants, summaries, files, file_passages)
