"""The gateway's own reads of Postgres: pages of threads and messages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, func, select, text, tuple_

from services.api.cursors import ThreadCursor
from services.api.visibility import joined_threads
from shared.archive import Archive, thread_columns, thread_from_row
from shared.events import ThreadStatus
from shared.read_model import SAID, messages, threads
from shared.thread_log import Thread
from shared.transcript import Message, message_from

UNREAD: Final = text("""
SELECT span.thread_id, (
  SELECT count(*) FROM (
    SELECT FROM messages
    WHERE messages.thread_id = span.thread_id AND position > behind AND position <= upto
      AND deleted_at IS NULL AND (role = 'assistant' OR role = 'user' AND author <> :author)
      AND message_id <> ALL(CAST(:without AS text[]))
    LIMIT :most
  ) AS counted
) AS unread
FROM unnest(CAST(:thread_ids AS text[]), CAST(:behind AS bigint[]), CAST(:upto AS bigint[]))
  AS span (thread_id, behind, upto)
""")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a thread: what stands behind a position, up to another."""

    thread_id: str
    behind: int
    upto: int


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
    archive: Archive, user: str, query: ThreadQuery, *, without: Sequence[str]
) -> list[Thread]:
    """Threads a user owns or has joined, newest activity first, but those named in ``without``.

    Two statements, since each is quick by an index of its own; together they are not.
    """
    own = await _threads(archive, threads.c.owner == user, query, without)
    others = await _threads(archive, threads.c.thread_id.in_(joined_threads(user)), query, without)
    return sorted(own + others, key=ThreadCursor.of, reverse=True)[: query.limit]


async def _threads(
    archive: Archive, whose: ColumnElement[bool], query: ThreadQuery, without: Sequence[str]
) -> list[Thread]:
    statement = (
        thread_columns()
        .where(whose, threads.c.deleted_at.is_(None))
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
    without: Collection[str],
    limit: int,
) -> list[Message]:
    """Messages between two positions: the first ones behind ``after``, else the newest."""
    order = messages.c.position.asc() if after is not None else messages.c.position.desc()
    statement = select(*SAID).where(_visible(thread_id)).order_by(order).limit(limit)
    if without:
        statement = statement.where(messages.c.message_id.not_in(without))
    if after is not None:
        statement = statement.where(messages.c.position > after)
    if before is not None:
        statement = statement.where(messages.c.position < before)
    rows = [message_from(row) for row in await archive.mappings(statement)]
    return sorted(rows, key=lambda message: message.position)


async def begun_messages(
    archive: Archive, message_ids: Collection[str]
) -> dict[str, Row[tuple[str, str | None, datetime | None]]]:
    """Author and deletion of answers: their rows are begun by the questions, which know."""
    columns = (messages.c.message_id, messages.c.author, messages.c.deleted_at)
    statement = select(*columns).where(messages.c.message_id.in_(message_ids))
    return {row.message_id: row for row in await archive.rows(statement)}


async def message_row(
    archive: Archive, thread_id: str, message_id: str
) -> Mapping[str, Any] | None:
    """What is archived of a message, also of one that is deleted, or not yet said."""
    statement = select(*SAID).where(
        messages.c.message_id == message_id, messages.c.thread_id == thread_id
    )
    found = await archive.mappings(statement)
    return found[0] if found else None


async def asked_in(archive: Archive, job_id: str) -> Message | None:
    """The question of a job, unless it is deleted."""
    statement = select(*SAID).where(
        messages.c.job_id == job_id, messages.c.role == "user", messages.c.deleted_at.is_(None)
    )
    found = await archive.mappings(statement)
    return message_from(found[0]) if found else None


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


async def count_unread(
    archive: Archive, user: str, spans: Sequence[Span], *, without: Collection[str], most: int
) -> dict[str, int]:
    """How many messages of others stand in a span of each thread: ``most`` stands for more."""
    statement = UNREAD.bindparams(
        thread_ids=[span.thread_id for span in spans],
        behind=[span.behind for span in spans],
        upto=[span.upto for span in spans],
        without=list(without),
        author=user,
        most=most,
    )
    return {row.thread_id: row.unread for row in await archive.rows(statement)}


def _visible(thread_id: str) -> Any:
    return and_(
        messages.c.thread_id == thread_id,
        messages.c.role.is_not(None),
        messages.c.deleted_at.is_(None),
    )
