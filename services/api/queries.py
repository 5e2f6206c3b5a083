"""The gateway's own reads of Postgres: pages of threads and messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, func, select, tuple_

from services.api.cursors import ThreadCursor
from shared.archive import Archive, rfc3339, thread_columns, thread_from_row
from shared.read_model import messages, threads
from shared.thread_log import Thread
from shared.transcript import Message


async def threads_page(
    archive: Archive,
    owner: str,
    *,
    status: str | None,
    agent: str | None,
    limit: int,
    cursor: ThreadCursor | None,
    without: Sequence[str],
) -> list[Thread]:
    """Threads of an owner, newest activity first, but for those named in ``without``."""
    statement = (
        thread_columns()
        .where(threads.c.owner == owner, threads.c.deleted_at.is_(None))
        .order_by(threads.c.updated_at.desc(), threads.c.thread_id.desc())
        .limit(limit)
    )
    if without:
        statement = statement.where(threads.c.thread_id.not_in(without))
    if status is not None:
        statement = statement.where(threads.c.status == status)
    if agent is not None:
        statement = statement.where(threads.c.agent == agent)
    if cursor is not None:
        place = (datetime.fromisoformat(cursor.updated_at), cursor.thread_id)
        statement = statement.where(tuple_(threads.c.updated_at, threads.c.thread_id) < place)
    return [thread_from_row(row) for row in await archive.rows(statement)]


async def messages_page(
    archive: Archive,
    thread_id: str,
    *,
    after: int | None,
    before: int | None,
    limit: int,
) -> list[Message]:
    """Messages between two positions: the first ones behind ``after``, else the newest."""
    order = messages.c.position.asc() if after is not None else messages.c.position.desc()
    statement = select(messages).where(_visible(thread_id)).order_by(order).limit(limit)
    if after is not None:
        statement = statement.where(messages.c.position > after)
    if before is not None:
        statement = statement.where(messages.c.position < before)
    rows = [message_from_row(row) for row in await archive.rows(statement)]
    return sorted(rows, key=lambda message: message.position)


async def count_messages(archive: Archive, thread_id: str, *, without: Sequence[str]) -> int:
    statement = select(func.count()).select_from(messages).where(_visible(thread_id))
    if without:
        statement = statement.where(messages.c.message_id.not_in(without))
    return (await archive.rows(statement))[0][0]


async def position_of(
    archive: Archive, thread_id: str, *, message_id: str | None = None, at: datetime | None = None
) -> int | None:
    """The position of a message, or of the last one up to a moment (0: there is none)."""
    if message_id is not None:
        statement = select(messages.c.position).where(
            messages.c.message_id == message_id, messages.c.thread_id == thread_id
        )
    else:
        statement = select(func.coalesce(func.max(messages.c.position), 0)).where(
            messages.c.thread_id == thread_id, messages.c.created_at <= at
        )
    rows = await archive.rows(statement)
    return rows[0][0] if rows else None


def message_from_row(row: Row[Any]) -> Message:
    return Message(
        message_id=row.message_id,
        thread_id=row.thread_id,
        job_id=row.job_id,
        role=row.role,
        author=row.author,
        content=row.content,
        metadata=row.metadata or {},
        status=row.status,
        finish_reason=row.finish_reason,
        usage=row.usage,
        position=row.position,
        created_at=rfc3339(row.created_at),
    )


def _visible(thread_id: str) -> Any:
    return and_(
        messages.c.thread_id == thread_id,
        messages.c.role.is_not(None),
        messages.c.deleted_at.is_(None),
    )
