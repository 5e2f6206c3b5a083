"""The gateway's own reads of Postgres: pages of threads and messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, select, tuple_

from services.api.cursors import ThreadCursor
from shared.archive import Archive, thread_columns, thread_from_row
from shared.events import ThreadStatus
from shared.read_model import SAID, messages, threads
from shared.thread_log import Thread
from shared.transcript import Message, message_from


@dataclass(frozen=True, slots=True)
class ThreadQuery:
    """Which threads of a user, and from where on; None: all of them, from the newest on."""

    limit: int
    status: ThreadStatus | None = None
    agent: str | None = None
    cursor: ThreadCursor | None = None

    def fits(self, thread: Thread) -> bool:
        """Whether a thread belongs into the list."""
        return (
            not thread.is_gone
            and self.status in (None, thread.status)
            and self.agent in (None, thread.agent)
            and (self.cursor is None or ThreadCursor.of(thread) < self.cursor)
        )


async def threads_page(
    archive: Archive, owner: str, query: ThreadQuery, *, without: Sequence[str]
) -> list[Thread]:
    """Threads of an owner, newest activity first, but for those named in ``without``."""
    statement = (
        thread_columns()
        .where(threads.c.owner == owner, threads.c.deleted_at.is_(None))
        .order_by(threads.c.updated_at.desc(), threads.c.thread_id.desc())
        .limit(query.limit)
    )
    if without:
        statement = statement.where(threads.c.thread_id.not_in(without))
    if query.status is not None:
        statement = statement.where(threads.c.status == query.status)
    if query.agent is not None:
        statement = statement.where(threads.c.agent == query.agent)
    if query.cursor is not None:
        place = (query.cursor.moment, query.cursor.thread_id)
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
    statement = select(*SAID).where(_visible(thread_id)).order_by(order).limit(limit)
    if after is not None:
        statement = statement.where(messages.c.position > after)
    if before is not None:
        statement = statement.where(messages.c.position < before)
    rows = [message_from(row) for row in await archive.mappings(statement)]
    return sorted(rows, key=lambda message: message.position)


async def authors_of(archive: Archive, message_ids: Collection[str]) -> dict[str, str]:
    """Who speaks in answers: their rows are begun by the questions, which know."""
    statement = select(messages.c.message_id, messages.c.author).where(
        messages.c.message_id.in_(message_ids), messages.c.author.is_not(None)
    )
    return {row.message_id: row.author for row in await archive.rows(statement)}


async def count_messages(archive: Archive, thread_id: str, *, without: Collection[str]) -> int:
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


def _visible(thread_id: str) -> Any:
    return and_(
        messages.c.thread_id == thread_id,
        messages.c.role.is_not(None),
        messages.c.deleted_at.is_(None),
    )
