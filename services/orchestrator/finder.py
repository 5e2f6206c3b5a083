"""What ``retrieve`` finds: passages of the thread's files and earlier messages, within a time.

Failures
    Postgres away, or slow   That half is found empty, after FIND_SECONDS_MAX at the latest: an
                             answer without its sources is better than none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Final, Protocol

from services.orchestrator.found_messages import Place, find_messages
from services.orchestrator.graph.prompt import Source
from services.orchestrator.graph.recollection import Hidden
from shared.archive import Archive
from shared.errors import ArchiveUnavailable
from shared.observability import get_logger

FIND_SECONDS_MAX: Final = 1.5
PASSAGES_MAX: Final = 4
PASSAGE_CHARS_MAX: Final = 1_200
MESSAGES_MAX: Final = 3

log = get_logger()


class Passage(Protocol):
    """A piece of a file's text; ``number`` is its place among them, from 1."""

    @property
    def file_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def text(self) -> str: ...


class FindPassages(Protocol):
    """Finds passages of a thread's files, best first. Raises ArchiveUnavailable."""

    async def __call__(
        self, archive: Archive, thread_id: str, query: str, *, limit: int
    ) -> Sequence[Passage]: ...


@dataclass(frozen=True, slots=True)
class ThreadFinder:
    """The graph's ``Finder``, for the question at a position of a thread."""

    archive: Archive
    find_passages: FindPassages
    thread_id: str
    question: int

    async def find(self, question: str, *, before: int | None, hidden: Hidden) -> list[Source]:
        """See ``Finder.find``. Passages and messages take turns."""
        passages, messages = await asyncio.gather(
            _in_time(self._passages(question)), _in_time(self._messages(question, before, hidden))
        )
        taken = chain.from_iterable(zip_longest(passages, messages))
        return [source for source in taken if source is not None]

    async def _passages(self, question: str) -> list[Source]:
        found = await self.find_passages(self.archive, self.thread_id, question, limit=PASSAGES_MAX)
        return [
            Source(one.text[:PASSAGE_CHARS_MAX], file_id=one.file_id, name=one.name)
            for one in found
        ]

    async def _messages(self, question: str, before: int | None, hidden: Hidden) -> list[Source]:
        if before is None:
            return []
        place = Place(self.thread_id, self.question, before, hidden)
        found = await find_messages(self.archive, place, question, limit=MESSAGES_MAX)
        return [Source(one.excerpt, message_id=one.message_id) for one in found]


async def _in_time(found: Awaitable[list[Source]]) -> list[Source]:
    try:
        async with asyncio.timeout(FIND_SECONDS_MAX):
            return await found
    except ArchiveUnavailable as error:
        log.warning("not looked for sources", reason=str(error))
    except TimeoutError:
        log.warning("not looked for sources", seconds=FIND_SECONDS_MAX)
    return []
