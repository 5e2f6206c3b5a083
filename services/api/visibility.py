"""Who may see which of Postgres' rows."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Select, Text, and_, cast, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, array

from shared.read_model import messages, participants, threads

SHARED_THREADS_MAX: Final = 1_000  # of one user, in which others ask too: the newest ones


def joined_threads(user: str) -> Select[tuple[str]]:
    """The ids of threads of others that a user was let into."""
    return select(participants.c.thread_id).where(
        participants.c.user_id == user, participants.c.present
    )


def seen_threads(user: str) -> ColumnElement[bool]:
    """Of ``threads``: those that a user may see."""
    theirs = or_(threads.c.owner == user, threads.c.thread_id.in_(joined_threads(user)))
    return and_(theirs, threads.c.deleted_at.is_(None))


def asked_by(user: str) -> ColumnElement[bool]:
    """Of ``messages``: what a user asked, and the answers to it, by an index."""
    return array([messages.c.asker]).contains(cast([user], ARRAY(Text)))


def shared_threads(user: str) -> Select[tuple[str]]:
    """The ids of threads that a user may see and that somebody else may have asked in."""
    guests = select(participants.c.thread_id).where(participants.c.user_id != user).exists()
    of_others = guests.where(participants.c.thread_id == threads.c.thread_id)
    lent = and_(threads.c.owner == user, of_others)
    return (
        select(threads.c.thread_id)
        .where(or_(lent, threads.c.thread_id.in_(joined_threads(user))))
        .where(threads.c.deleted_at.is_(None))
        .order_by(threads.c.updated_at.desc())
        .limit(SHARED_THREADS_MAX)
    )
