"""The text of the files that a question has attached, in front of the question.

    passages: Redis what is not archived, Postgres the rest ─┬─ all fit ──▶ all, as they stand
                                                             └─ too many ─▶ those that speak of the
                                                                            question, else the first

They take at most half of the model's window. A file without text, such as an image, adds nothing.

Failures
    A store away   Waits, as the history does: an answer that has not seen the file would be wrong.
                   The job's deadline is the bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select

from shared.archive import Archive
from shared.codec import decode_event
from shared.commands import RunJob
from shared.errors import ArchiveTooSlow, ArchiveUnavailable, LogUnavailable
from shared.events import FilePassages
from shared.hot_state import READ_COUNT_MAX, HotState
from shared.observability import get_logger
from shared.passages import FOUND_MAX, Passage, find_passages
from shared.read_model import file_passages

RETRY_SECONDS: Final = 0.25
PASSAGES_MAX: Final = 1000  # of all files of one question
WINDOW_SHARE: Final = 2  # files take at most half of it
BYTES_PER_TOKEN: Final = 3  # of UTF-8, as the history is counted

log = get_logger()


@dataclass(frozen=True, slots=True)
class Told:
    """A question with what its files say, and which passages those are."""

    command: RunJob
    passages: Sequence[Passage] = ()

    @property
    def sources(self) -> list[dict[str, Any]]:
        """For the client."""
        return [{"file_id": p.file_id, "name": p.name, "passage": p.text} for p in self.passages]


class AttachedTexts:
    def __init__(self, hot: HotState, archive: Archive, *, context_tokens: int) -> None:
        self._hot, self._archive = hot, archive
        self._bytes_max = context_tokens // WINDOW_SHARE * BYTES_PER_TOKEN

    async def tell(self, command: RunJob) -> Told:
        """The question as the model is to read it."""
        if not command.attachments:
            return Told(command)
        while True:
            try:
                chosen = await self._chosen(command)
            except (ArchiveUnavailable, LogUnavailable) as error:
                log.warning("files cannot be read, will try again", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return Told(_with_texts(command, chosen), chosen) if chosen else Told(command)

    async def _chosen(self, command: RunJob) -> list[Passage]:
        passages = await self._passages(command)
        if _size(passages) <= self._bytes_max:
            return passages
        attached = {each.file_id for each in command.attachments}
        found = await self._found(command)
        fitting = [each for each in found if each.file_id in attached] or passages
        return self._within_bound(fitting)

    async def _found(self, command: RunJob) -> list[Passage]:
        try:
            return await find_passages(
                self._archive, command.thread_id, command.content, limit=FOUND_MAX
            )
        except ArchiveTooSlow:
            return []

    def _within_bound(self, passages: Iterable[Passage]) -> list[Passage]:
        kept, left = list[Passage](), self._bytes_max
        for passage in passages:
            left -= _size([passage])
            if left < 0:
                break
            kept.append(passage)
        return kept

    async def _passages(self, command: RunJob) -> list[Passage]:
        """All passages of the files, in the order of the files and of their texts.

        Redis is asked first: what is archived meanwhile is found in Postgres, or twice.
        """
        names = {each.file_id: each.name for each in command.attachments}
        texts = await self._unarchived(command.thread_id)
        columns = (file_passages.c.file_id, file_passages.c.number, file_passages.c.text)
        statement = (
            select(*columns)
            .where(file_passages.c.file_id.in_(names))
            .order_by(file_passages.c.number)
            .limit(PASSAGES_MAX)
        )
        for row in await self._archive.rows(statement):
            texts[row.file_id, row.number] = row.text
        return [
            Passage(file_id, name, number, text)
            for file_id, name in names.items()
            for (owner, number), text in sorted(texts.items())
            if owner == file_id
        ]

    async def _unarchived(self, thread_id: str) -> dict[tuple[str, int], str]:
        thread = await self._hot.thread(thread_id)
        texts: dict[tuple[str, int], str] = {}
        place = thread.archived if thread else 0
        while thread:
            page = await self._hot.records(thread_id, after=place)
            for record in page:
                event = decode_event(record.data) if record.type == "file.passages" else None
                if isinstance(event, FilePassages):
                    for number, text in enumerate(event.texts, event.first):
                        texts[event.file_id, number] = text
            if len(page) < READ_COUNT_MAX:
                break
            place = page[-1].position
        return texts


def _with_texts(command: RunJob, passages: Sequence[Passage]) -> RunJob:
    names = dict.fromkeys(passage.name for passage in passages)
    files = [
        f"[{name}]\n" + "\n\n".join(each.text for each in passages if each.name == name)
        for name in names
    ]
    return command.model_copy(update={"content": "\n\n".join((*files, command.content))})


def _size(passages: Iterable[Passage]) -> int:
    return sum(len(passage.text.encode()) for passage in passages)
