"""What Postgres finds: messages by their terms, in the order of an answer's pages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, Select, cast, literal, or_, select, tuple_, union_all
from sqlalchemy.dialects.postgresql import TSQUERY

from services.api.cursors import FoundCursor
from services.api.visibility import asked_by, seen_threads, shared_threads
from shared.archive import Archive
from shared.read_model import SAID, messages, threads
from shared.search_terms import Part, Query, tsquery
from shared.transcript import Message, message_from

SEARCH_MS_MAX: Final = 3_000


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found, and the title of its thread."""

    rank: int
    message: Message
    thread_title: str | None

    @property
    def place(self) -> FoundCursor:
        return FoundCursor(self.rank, self.message.created_at, self.message.message_id)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What Redis knows and Postgres may not: ids."""

    seen: Collection[str] = ()  # threads that the user may see
    gone: Collection[str] = ()  # threads that the user may not see any more
    deleted: Collection[str] = ()  # messages


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user looks for: in one thread, which they may see, or in all; from where on."""

    user: str
    query: Query
    limit: int
    thread_id: str | None = None
    cursor: FoundCursor | None = None


NOTHING_AHEAD: Final = Ahead()


async def archived_hits(archive: Archive, wish: Wish, ahead: Ahead) -> list[Hit]:
    """The best hits behind the cursor.

    Raises ArchiveTooSlow, ArchiveUnavailable.
    """
    rows = await archive.mappings_within(SEARCH_MS_MAX, statement_of(wish, ahead))
    return [Hit(row["rank"], message_from(row), row["thread_title"]) for row in rows]


def statement_of(wish: Wish, ahead: Ahead = NOTHING_AHEAD) -> Select[Any]:
    """The page, of two parts where no thread is named: each has an index of its own.

    What a user asked, and what was answered, stands together in one; what others asked in threads
    that are shared with the user does not.
    """
    query = wish.query
    rank = (cast(_has(query.exact.parts), Integer) + cast(_has([query.whole]), Integer)).label(
        "rank"
    )
    fitting = (
        select(messages.c.message_id, messages.c.created_at, rank, threads.c.title)
        .join(threads, threads.c.thread_id == messages.c.thread_id)
        .where(_has(query.parts), messages.c.role.is_not(None), messages.c.deleted_at.is_(None))
        .where(or_(seen_threads(wish.user), threads.c.thread_id.in_(ahead.seen)))
    )
    if ahead.gone:
        fitting = fitting.where(messages.c.thread_id.not_in(ahead.gone))
    if ahead.deleted:
        fitting = fitting.where(messages.c.message_id.not_in(ahead.deleted))
    if wish.thread_id is None:
        shared = messages.c.thread_id.in_(shared_threads(wish.user))
        if ahead.seen:
            shared = or_(shared, messages.c.thread_id.in_(ahead.seen))
        of_others = fitting.where(messages.c.asker != wish.user, shared)
        hits = union_all(fitting.where(asked_by(wish.user)), of_others).subquery("found")
    else:
        hits = fitting.where(messages.c.thread_id == wish.thread_id).subquery("found")
    place = (hits.c.rank, hits.c.created_at, hits.c.message_id)
    page = select(hits).order_by(*(column.desc() for column in place)).limit(wish.limit)
    if wish.cursor is not None:
        behind = (wish.cursor.rank, wish.cursor.moment, wish.cursor.message_id)
        page = page.where(tuple_(*place) < behind)
    best = page.subquery("best")
    return select(*SAID, best.c.rank, best.c.title.label("thread_title")).join(
        best, best.c.message_id == messages.c.message_id
    )


def _has(parts: Sequence[Part]) -> ColumnElement[bool]:
    return messages.c.terms.op("@@")(cast(literal(tsquery(parts)), TSQUERY))
