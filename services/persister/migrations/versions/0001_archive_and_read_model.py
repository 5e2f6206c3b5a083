"""The archive of events, and the read model: threads, messages, jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON, JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    _create_events()
    _create_threads()
    _create_messages()
    _create_jobs()
    _create_checkpoints()


def downgrade() -> None:
    for table in ("checkpoints", "jobs", "messages", "threads", "events"):
        op.drop_table(table)


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str, *, nullable: bool = True) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _number(name: str, kind: type[sa.Integer]) -> sa.Column[int]:
    return sa.Column(name, kind, nullable=False, server_default=sa.text("0"))


def _create_events() -> None:
    op.create_table(
        "events",
        _text("stream_id", nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        _text("thread_id", nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        _text("type", nullable=False),
        sa.Column("data", JSON, nullable=False),
        _time("recorded_at", nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "seq"),
    )
    op.create_index("events_by_position", "events", ["thread_id", "position"])


def _create_threads() -> None:
    op.create_table(
        "threads",
        sa.Column("thread_id", sa.Text, primary_key=True),
        _text("owner"),
        _text("title"),
        _number("title_position", sa.BigInteger),
        sa.Column("metadata", JSONB),
        _number("metadata_position", sa.BigInteger),
        _text("status"),
        _number("status_position", sa.BigInteger),
        _text("agent"),
        _time("created_at"),
        _time("updated_at"),
        _time("deleted_at"),
        _number("position", sa.BigInteger),
        _number("seq", sa.Integer),
        _number("event_count", sa.BigInteger),
    )
    newest_first = ["owner", sa.text("updated_at DESC"), sa.text("thread_id DESC")]
    op.create_index("threads_by_activity", "threads", newest_first)


def _create_messages() -> None:
    op.create_table(
        "messages",
        sa.Column("message_id", sa.Text, primary_key=True),
        _text("thread_id", nullable=False),
        _text("job_id", nullable=False),
        _text("role"),
        _text("author"),
        _text("content"),
        sa.Column("metadata", JSONB),
        _text("status"),
        _text("finish_reason"),
        sa.Column("usage", JSONB),
        sa.Column("position", sa.BigInteger),
        _time("created_at"),
        _time("deleted_at"),
    )
    op.create_index("messages_by_position", "messages", ["thread_id", "position"])
    op.create_index("messages_by_job", "messages", ["job_id"])


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text, primary_key=True),
        _text("thread_id", nullable=False),
        _text("owner"),
        _text("message_id"),
        _text("reply_id"),
        _text("agent"),
        _text("trace_id"),
        _text("status"),
        _number("attempt", sa.Integer),
        _number("last_seq", sa.Integer),
        _number("event_count", sa.Integer),
        sa.Column("first_position", sa.BigInteger),
        _time("created_at"),
        _time("started_at"),
        _time("finished_at"),
    )
    op.create_index("jobs_by_thread", "jobs", ["thread_id", "first_position"])


def _create_checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("partition", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("log_ms", sa.BigInteger, nullable=False),
        sa.Column("log_n", sa.BigInteger, nullable=False),
        sa.Column("event_count", sa.BigInteger, nullable=False),
        _time("updated_at", nullable=False),
    )
