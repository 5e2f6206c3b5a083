"""Search over a user's messages: what Postgres finds, and what it does not have yet.

    threads with something new ──▶ their newest messages ──▶ fit? ─┐
                                                                   ├─▶ best first ─▶ page
    Postgres, but for threads that are gone ──▶ best hits ─────────┘

Both sides read a text in the same way (``shared.search_terms``), so a message has the same place in
the answer before and after it is archived, and a cursor goes on leading to what stands behind it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from services.api.cursors import FoundCursor
from services.api.queries import authors_of
from services.api.search_query import Hit, Wish, archived_hits
from services.api.snippets import Piece, snippet_of
from services.api.threads import Threads
from services.api.visibility import may_see
from shared.archive import Archive
from shared.hot_state import HotState
from shared.search_terms import rank_of
from shared.thread_log import Thread
from shared.transcript import unarchived_of

HOT_THREADS_MAX: Final = 100  # of one user, whose newest messages are looked through


@dataclass(frozen=True, slots=True)
class Found:
    hit: Hit
    snippet: list[Piece]


class Search:
    def __init__(self, threads: Threads, hot: HotState, archive: Archive) -> None:
        self._threads, self._hot, self._archive = threads, hot, archive

    async def page(self, wish: Wish) -> tuple[list[Found], FoundCursor | None]:
        """The best hits behind the cursor, and the cursor of the next page.

        Raises NotFound for a thread that the user may not see, ArchiveTooSlow.
        """
        recent, gone = await self._recent(wish)
        if not wish.query:
            return [], None
        newest = await self._newest_hits(wish, recent)
        further = replace(wish, limit=wish.limit + 1)
        hits = {
            hit.message.message_id: hit
            for hit in await archived_hits(self._archive, further, without=gone)
        }
        hits |= newest
        ordered = sorted(hits.values(), key=lambda hit: hit.place, reverse=True)
        page = await self._signed(ordered[: wish.limit], {t.thread_id: t for t in recent})
        found = await asyncio.to_thread(
            lambda: [Found(hit, snippet_of(wish.query, hit.message.content)) for hit in page]
        )
        return found, page[-1].place if len(ordered) > wish.limit else None

    async def _recent(self, wish: Wish) -> tuple[list[Thread], list[str]]:
        """Threads of which Redis may know more than Postgres, and those that are gone."""
        if wish.thread_id is not None:
            return [await self._threads.get(wish.user, wish.thread_id)], []
        dirty = await self._hot.dirty_threads(wish.user)
        seen = [thread for thread in dirty if may_see(wish.user, thread)]
        gone = [thread.thread_id for thread in dirty if not may_see(wish.user, thread)]
        seen.sort(key=lambda thread: thread.updated_at, reverse=True)
        return seen[:HOT_THREADS_MAX], gone

    async def _newest_hits(self, wish: Wish, recent: list[Thread]) -> dict[str, Hit]:
        """The hits among the messages that are not archived, by id."""
        archived = {thread.thread_id: thread.archived for thread in recent}
        titles = {thread.thread_id: thread.title for thread in recent}
        hits: dict[str, Hit] = {}
        for message in await unarchived_of(self._hot, archived):
            rank = rank_of(wish.query, message.content)
            if rank is None:
                continue
            hit = Hit(rank, message, titles[message.thread_id])
            if wish.cursor is None or hit.place < wish.cursor:
                hits[message.message_id] = hit
        return hits

    async def _signed(self, hits: list[Hit], recent: dict[str, Thread]) -> list[Hit]:
        """With authors, whose questions may be archived, and with the titles of this moment."""
        unsigned = [hit.message.message_id for hit in hits if hit.message.author is None]
        authors = await authors_of(self._archive, unsigned) if unsigned else {}

        def signed(hit: Hit) -> Hit:
            message, thread = hit.message, recent.get(hit.message.thread_id)
            author = message.author or authors.get(message.message_id)
            title = thread.title if thread else hit.thread_title
            return replace(hit, message=replace(message, author=author), thread_title=title)

        return [signed(hit) for hit in hits]
