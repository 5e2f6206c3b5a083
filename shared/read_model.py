"""The tables: the archive of events, and the read model made from it.

`events` is the archive and the truth; it is only ever added to. Everything else is a projection of
it: columns are merged in ways that do not depend on the order of batches (greatest, least, the
value with the highest position), and rows may be dropped and made again.

A row may appear before the event that names its owner has been projected (batches come in any
order); readers see a thread once `owner` is set, and a message once `role` is set.

Whether the archive has all of a thread is a matter of counting: positions are 1..n without hole, so
`event_count = position` says that nothing is missing in front. The same holds for a job's seq.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
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
from sqlalchemy.dialects.postgresql import JSON, JSONB

metadata = MetaData()

events = Table(
    "events",
    metadata,
    Column("stream_id", Text, nullable=False),  # the job's id, or the thread's for thread events
    Column("seq", Integer, nullable=False),
    Column("thread_id", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", JSON, nullable=False),  # json, not jsonb: the bytes clients saw, to the letter
    Column("recorded_at", DateTime(timezone=True), nullable=False),  # when the log took it
    PrimaryKeyConstraint("stream_id", "seq"),
    Index("events_by_position", "thread_id", "position"),
)

threads = Table(
    "threads",
    metadata,
    Column("thread_id", Text, primary_key=True),
    Column("owner", Text),
    Column("title", Text),
    Column("title_position", BigInteger, nullable=False, server_default=text("0")),
    Column("metadata", JSONB),
    Column("metadata_position", BigInteger, nullable=False, server_default=text("0")),
    Column("status", Text),
    Column("status_position", BigInteger, nullable=False, server_default=text("0")),
    Column("agent", Text),
    Column("created_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),  # of its newest message, answer or change
    Column("deleted_at", DateTime(timezone=True)),
    Column("position", BigInteger, nullable=False, server_default=text("0")),  # the highest
    Column("seq", Integer, nullable=False, server_default=text("0")),  # the highest
    Column("event_count", BigInteger, nullable=False, server_default=text("0")),
    Index("threads_by_activity", "owner", text("updated_at DESC"), text("thread_id DESC")),
)

messages = Table(
    "messages",
    metadata,
    Column("message_id", Text, primary_key=True),
    Column("thread_id", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("role", Text),  # user | assistant
    Column("author", Text),  # the user, or the agent
    Column("content", Text),
    Column("metadata", JSONB),
    Column("status", Text),  # of an assistant's message: done | failed | cancelled
    Column("finish_reason", Text),
    Column("usage", JSONB),
    Column("position", BigInteger),
    Column("created_at", DateTime(timezone=True)),
    Column("deleted_at", DateTime(timezone=True)),
    Index("messages_by_position", "thread_id", "position"),
    Index("messages_by_job", "job_id"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("thread_id", Text, nullable=False),
    Column("owner", Text),
    Column("message_id", Text),
    Column("reply_id", Text),
    Column("agent", Text),
    Column("trace_id", Text),
    Column("status", Text),  # queued | running | done | failed | cancelled: only onward
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("last_seq", Integer, nullable=False, server_default=text("0")),
    Column("event_count", Integer, nullable=False, server_default=text("0")),
    Column("first_position", BigInteger),  # of its message.posted
    Column("created_at", DateTime(timezone=True)),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Index("jobs_by_thread", "thread_id", "first_position"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("partition", SmallInteger, primary_key=True),
    Column("log_ms", BigInteger, nullable=False),  # the highest log entry projected: <ms>-<n>
    Column("log_n", BigInteger, nullable=False),
    Column("event_count", BigInteger, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)

PROJECTED = (threads, messages, jobs)  # what a rebuild drops and makes again
