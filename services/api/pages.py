"""Reads a thread for one client, page by page: as many records as may be held at once.

A page begins *at* the cursor, with the record that stands there, so that its reader can tell
whether it is the one it knows (see ``follower``).
"""

from __future__ import annotations

from itertools import accumulate
from typing import Final

from shared.codec import Record
from shared.errors import EventsGone
from shared.hot_state import READ_COUNT_MAX
from shared.thread_stream import ArchivedPage, Page, ThreadStream

PAGE_BYTES_MAX: Final = 128 * 1024  # read at once, of which one record may be more
FIRST_PAGE_COUNT: Final = 100  # records; later pages as many as PAGE_BYTES_MAX holds


class Pages:
    __slots__ = ("_count", "_history", "_is_archived", "_is_measured", "_thread_id")

    def __init__(self, history: ThreadStream, thread_id: str) -> None:
        self._history, self._thread_id = history, thread_id
        self._count = FIRST_PAGE_COUNT
        self._is_measured = False  # whether that is about what PAGE_BYTES_MAX holds
        self._is_archived = False  # whether the page before was

    async def read(self, cursor: int, known: Record | None) -> Page:
        """What stands at the cursor and behind it; ``known`` is what the client got there.

        Raises EventsGone if what stands behind the cursor is kept no longer, and what
        ``ThreadStream.behind`` raises.
        """
        place = max(cursor - 1, 0)
        count = self._count + (cursor > 0)
        try:
            records, more = await self._next(place, count)
        except EventsGone:
            records, more = await self._behind_the_gone(cursor, known, count)
        if more and cursor and len(records) == 1:  # the archive's last one: Redis goes on
            news, more = await self._history.behind(self._thread_id, cursor, count=count)
            records = records + news
        held = _within(records, PAGE_BYTES_MAX, at_least=1 + (cursor > 0))
        if held < len(records):
            self._count, self._is_measured = held, True
            return Page(records[:held], True)
        if more:
            grown = self._count + self._count // 8 if self._is_measured else 2 * self._count
            self._count = min(grown, READ_COUNT_MAX)
        return Page(records, more)

    async def _next(self, place: int, count: int) -> Page:
        """Redis is not asked in vain once the archive has begun to answer."""
        if self._is_archived and self._is_measured:
            page = await self._history.archived(self._thread_id, place, count=count)
            if page.records:
                return page
        page = await self._history.behind(self._thread_id, place, count=count)
        self._is_archived = isinstance(page, ArchivedPage)
        return page

    async def _behind_the_gone(self, cursor: int, known: Record | None, count: int) -> Page:
        """What stands behind a cursor at which there is nothing to compare with any more."""
        records, more = await self._history.behind(self._thread_id, cursor, count=count)
        here = known or Record(cursor, "", 0, "", b"")
        return Page([here, *records], more)


def _within(records: list[Record], bytes_max: int, *, at_least: int) -> int:
    """How many of the first records are together no more than this, and at least so many."""
    sizes = accumulate(len(record.data) for record in records)
    return max(at_least, sum(size <= bytes_max for size in sizes))
