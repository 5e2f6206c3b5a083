"""How many messages of others a user has not read in a thread.

    read:<user>        archived                    position
    ──────┼───────────────┼───────────────────────────┤
          └── Postgres ───┴── the stream in Redis ────┘

Redis is read first, and Postgres asked only up to where Redis said that it has all: what moves from
one to the other in between is counted once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.api.newest import newest
from services.api.queries import Span, count_unread
from shared.archive import Archive
from shared.errors import ArchiveUnavailable
from shared.hot_state import HotState
from shared.thread_log import Thread

UNREAD_MAX: Final = 1000  # counted; it stands for more


class Unread:
    def __init__(self, hot: HotState, archive: Archive) -> None:
        self._hot, self._archive = hot, archive

    async def counts(self, user: str, threads: Sequence[Thread]) -> dict[str, int | None]:
        """By thread, None where Postgres would have to be asked and is away."""
        read = {thread.thread_id: thread.reads.get(user, 0) for thread in threads}
        fresh = {each.thread_id: each.archived for each in threads if each.archived < each.position}
        try:
            told = await newest(self._hot, self._archive, fresh)
        except ArchiveUnavailable:
            return dict.fromkeys(read)
        counts: dict[str, int | None] = {thread_id: 0 for thread_id in read}
        counts |= {
            thread_id: sum(
                message.position > read[thread_id]
                and (message.role == "assistant" or message.author != user)
                for message in here.messages.values()
            )
            for thread_id, here in told.items()
        }
        gone = {message_id for here in told.values() for message_id in here.deleted}
        spans = [
            Span(each.thread_id, read[each.thread_id], each.archived)
            for each in threads
            if read[each.thread_id] < each.archived
        ]
        for thread_id, archived in (await self._archived(user, spans, gone)).items():
            here = counts[thread_id] or 0
            counts[thread_id] = None if archived is None else min(here + archived, UNREAD_MAX)
        return counts

    async def _archived(
        self, user: str, spans: Sequence[Span], gone: set[str]
    ) -> dict[str, int | None]:
        if not spans:
            return {}
        try:
            found = await count_unread(self._archive, user, spans, without=gone, most=UNREAD_MAX)
        except ArchiveUnavailable:
            return {span.thread_id: None for span in spans}
        return {**found}
