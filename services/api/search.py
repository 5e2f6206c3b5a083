"""Search over a user's messages: what Postgres finds, and what it does not have yet.

    threads with something new ──▶ their newest messages ──▶ fit? ─┐
                                                                   ├─▶ best first ─▶ page
    Postgres, but for threads that are gone ──▶ best hits ─────────┘

Both sides read a text in the same way (``shared.search_terms``), so a message has the same place in
the answer before and after it is archived, and a cursor goes on leading to what stands behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from services.api.cursors import FoundCursor
from services.api.newest import Newest, newest
from services.api.search_query import Ahead, Hit, Wish, archived_hits
from services.api.snippets import Piece, snippet_of
from services.api.threads import Threads
from shared.archive import Archive
from shared.hot_state import HotState
from shared.search_terms import rank_of
from shared.thread_log import Thread

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
        places = {thread.thread_id: thread.archived for thread in recent}
        fresh = await newest(self._hot, self._archive, places)
        deleted = frozenset[str]().union(*(one.deleted for one in fresh.values()))
        further = replace(wish, limit=wish.limit + 1)
        archived = await archived_hits(self._archive, further, Ahead(places, gone, deleted))
        titles = {thread.thread_id: thread.title for thread in recent}
        hits = {hit.message.message_id: _titled(hit, titles) for hit in archived}
        hits |= _newest_hits(wish, fresh, titles)
        ordered = sorted(hits.values(), key=lambda hit: hit.place, reverse=True)
        page = ordered[: wish.limit]
        found = await asyncio.to_thread(
            lambda: [Found(hit, snippet_of(wish.query, hit.message.content)) for hit in page]
        )
        return found, page[-1].place if len(ordered) > wish.limit else None

    async def _recent(self, wish: Wish) -> tuple[list[Thread], list[str]]:
        """Threads of which Redis may know more than Postgres, and those that are gone."""
        if wish.thread_id is not None:
            return [await self._threads.get(wish.user, wish.thread_id)], []
        dirty = await self._hot.dirty_threads(wish.user)
        seen = [thread for thread in dirty if _is_seen(thread, wish.user)]
        gone = [thread.thread_id for thread in dirty if not _is_seen(thread, wish.user)]
        seen.sort(key=lambda thread: thread.updated_at, reverse=True)
        return seen[:HOT_THREADS_MAX], gone


def _is_seen(thread: Thread, user: str) -> bool:
    return thread.has(user) and not thread.is_gone


def _newest_hits(
    wish: Wish, fresh: Mapping[str, Newest], titles: Mapping[str, str | None]
) -> dict[str, Hit]:
    """The hits among the messages that are not archived, by id."""
    hits: dict[str, Hit] = {}
    for message in (message for one in fresh.values() for message in one.messages.values()):
        rank = rank_of(wish.query, message.content)
        if rank is None:
            continue
        hit = Hit(rank, message, titles[message.thread_id])
        if wish.cursor is None or hit.place < wish.cursor:
            hits[message.message_id] = hit
    return hits


def _titled(hit: Hit, titles: Mapping[str, str | None]) -> Hit:
    """With the title of this moment."""
    return replace(hit, thread_title=titles.get(hit.message.thread_id, hit.thread_title))
