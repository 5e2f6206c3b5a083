"""The newest messages of threads: from Redis, with what only Postgres knows of them.

An answer may be in Redis alone while its question is archived. Then the archive knows who answers,
and whether the answer was deleted before it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from services.api.queries import begun_messages
from shared.archive import Archive
from shared.hot_state import HotState
from shared.transcript import Message, Tail, unarchived_of


@dataclass(frozen=True, slots=True)
class Newest:
    """``messages`` are there to be seen; ``deleted`` are gone, wherever they were said."""

    tail: Tail
    messages: Mapping[str, Message]
    deleted: frozenset[str]

    def position(self, message_id: str) -> int | None:
        """Where a message stands, also one that is deleted."""
        return self.tail.rows.get(message_id, {}).get("position")


async def newest(hot: HotState, archive: Archive, archived: Mapping[str, int]) -> dict[str, Newest]:
    """By thread, behind an archived position of each. Raises LogUnavailable, ArchiveUnavailable.

    Postgres is asked only for answers whose question is not among them.
    """
    tails = await unarchived_of(hot, archived)
    said = {thread_id: tail.messages for thread_id, tail in tails.items()}
    unsigned = [m.message_id for found in said.values() for m in found.values() if not m.author]
    begun = await begun_messages(archive, unsigned) if unsigned else {}
    gone = {message_id for message_id, row in begun.items() if row.deleted_at}
    return {
        thread_id: Newest(
            tail,
            {
                name: message if message.author else replace(message, author=_author(begun, name))
                for name, message in said[thread_id].items()
                if name not in gone
            },
            frozenset(tail.deleted | (gone & said[thread_id].keys())),
        )
        for thread_id, tail in tails.items()
    }


def _author(begun: Mapping[str, object], message_id: str) -> str | None:
    return getattr(begun.get(message_id), "author", None)
