"""What Postgres finds: messages by their terms, in the order of an answer's pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, Select, cast, literal, select, tuple_
from sqlalchemy.dialects.postgresql import TSQUERY

from services.api.cursors import FoundCursor
from services.api.visibility import seen_messages, seen_threads
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
class Wish:
    """What a user looks for: in one thread, which they may see, or in all; from where on."""

    user: str
    query: Query
    limit: int
    thread_id: str | None = None
    cursor: FoundCursor | None = None


async def archived_hits(archive: Archive, wish: Wish, *, without: Sequence[str]) -> list[Hit]:
    """The best hits behind the cursor, but for those in the threads named in ``without``.

    Raises ArchiveTooSlow, ArchiveUnavailable.
    """
    rows = await archive.mappings_within(SEARCH_MS_MAX, statement_of(wish, without))
    return [Hit(row["rank"], message_from(row), row["thread_title"]) for row in rows]


def statement_of(wish: Wish, without: Sequence[str] = ()) -> Select[Any]:
    query = wish.query
    rank = (cast(_has(query.exact.parts), Integer) + cast(_has([query.whole]), Integer)).label(
        "rank"
    )
    found = (
        select(messages.c.message_id, messages.c.created_at, rank, threads.c.title)
        .join(threads, threads.c.thread_id == messages.c.thread_id)
        .where(_has(query.parts), messages.c.role.is_not(None), messages.c.deleted_at.is_(None))
        .where(seen_threads(wish.user))
    )
    if wish.thread_id is None:
        found = found.where(seen_messages(wish.user))
    else:
        found = found.where(messages.c.thread_id == wish.thread_id)
    if without:
        found = found.where(messages.c.thread_id.not_in(without))
    hits = found.subquery("found")
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
