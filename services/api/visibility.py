"""Who may see what: said once for Postgres' rows, and once for threads from Redis."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Text, and_, cast
from sqlalchemy.dialects.postgresql import ARRAY, array

from shared.read_model import messages, threads
from shared.thread_log import Thread


def seen_threads(user: str) -> ColumnElement[bool]:
    """Of ``threads``: those that a user may see."""
    return and_(threads.c.owner == user, threads.c.deleted_at.is_(None))


def seen_messages(user: str) -> ColumnElement[bool]:
    """Of ``messages``, by index: none that a user may see is missing.

    A thread has one owner, and only owners ask. Whether the thread may be seen stands in
    ``seen_threads``, which must be asked as well.
    """
    return array([messages.c.asker]).contains(cast([user], ARRAY(Text)))


def may_see(user: str, thread: Thread) -> bool:
    return thread.owner == user and not thread.is_gone
