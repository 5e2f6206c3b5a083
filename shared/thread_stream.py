"""What stands behind a position of a thread: from its stream in Redis, or from the archive.

Redis holds a thread's newest events, in order and without hole, and lets go only what is archived.
The archive may have holes where batches are still under way, but none in what Redis has let go
(what is kept no longer excepted). So whatever comes next is the head of what one of the two has, or
there is nothing yet.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Final, NamedTuple

from shared.archive import Archive
from shared.codec import Record
from shared.errors import EventsGone, HeadwaterError
from shared.hot_state import READ_COUNT_MAX, HotState


class HoleInStream(HeadwaterError):
    """Events that were written are neither in Redis nor in the archive."""


class Page(NamedTuple):
    """Records in order, the first one right behind the place asked for."""

    records: list[Record]
    more: bool  # whether more may be there already


class ArchivedPage(Page):
    """It came from the archive, where what follows is likely to be, too."""


ARCHIVED_PER_HOT: Final = 2  # what Postgres reads in the time in which Redis is asked in vain


class ThreadStream:
    def __init__(self, hot: HotState, archive: Archive) -> None:
        self._hot, self._archive = hot, archive

    async def behind(self, thread_id: str, place: int, *, count: int = READ_COUNT_MAX) -> Page:
        """The records right behind a position; none at the thread's end.

        At most ``count`` from Redis, and ARCHIVED_PER_HOT times as many from the archive.

        Raises LogUnavailable, ArchiveUnavailable, HoleInStream, EventsGone.
        """
        records = await self._hot.records(thread_id, after=place, count=count)
        if _continues(records, place):
            return Page(records, len(records) == count)
        thread = await self._hot.thread(thread_id)
        if not records and thread is not None and thread.position <= place:
            return Page([], False)
        archived = await self.archived(thread_id, place, count=count * ARCHIVED_PER_HOT)
        if archived.records:
            return archived
        # Neither had it: it came between the looks, or this is the end of an archived thread.
        records = await self._hot.records(thread_id, after=place, count=count)
        if not _continues(records, place) and (records or (thread and thread.position > place)):
            if place < await self._archive.settled_position(thread_id):
                raise EventsGone()
            raise HoleInStream(f"nobody has position {place + 1} of {thread_id}")
        return Page(records, len(records) == count)

    async def archived(self, thread_id: str, place: int, *, count: int) -> ArchivedPage:
        """The records right behind a position that the archive has; none may be elsewhere.

        Raises ArchiveUnavailable.
        """
        records = await self._archive.records(thread_id, after=place, count=count)
        return ArchivedPage(_unbroken(records, place), True)


def _continues(records: list[Record], place: int) -> bool:
    return bool(records) and records[0].position == place + 1


def _unbroken(records: list[Record], place: int) -> list[Record]:
    """The records up to the first hole."""
    in_place = takewhile(lambda pair: pair[0] == pair[1].position, enumerate(records, place + 1))
    return [record for _, record in in_place]
