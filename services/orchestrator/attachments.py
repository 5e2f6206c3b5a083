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
from typing import Final

from sqlalchemy import select

from services.orchestrator.graph.context_window import estimate_tokens
from services.orchestrator.graph.prompt import Source
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

log = get_logger()


@dataclass(frozen=True, slots=True)
class Told:
    """A question with what its files say, and which passages those are."""

    content: str  # the question as the model is to read it
    sources: Sequence[Source] = ()


class AttachedTexts:
    def __init__(self, hot: HotState, archive: Archive) -> None:
        self._hot, self._archive = hot, archive

    async def tell(self, command: RunJob, *, context_tokens: int) -> Told:
        """What the model is to read, whose window is so long."""
        if not command.attachments:
            return Told(command.content)
        while True:
            try:
                chosen = await self._chosen(command, context_tokens // WINDOW_SHARE)
            except (ArchiveUnavailable, LogUnavailable) as error:
                log.warning("files cannot be read, will try again", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                sources = [Source(each.text, each.file_id, each.name) for each in chosen]
                return Told(_with_texts(command.content, chosen), sources)

    async def _chosen(self, command: RunJob, tokens: int) -> list[Passage]:
        passages = await self._passages(command)
        if len(fitting := _within(passages, tokens)) == len(passages):
            return passages
        attached = {each.file_id for each in command.attachments}
        found = [each for each in await self._found(command) if each.file_id in attached]
        return _within(found, tokens) if found else fitting

    async def _found(self, command: RunJob) -> list[Passage]:
        try:
            return await find_passages(
                self._archive, command.thread_id, command.content, limit=FOUND_MAX
            )
        except ArchiveTooSlow:
            return []

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


def _with_texts(question: str, passages: Sequence[Passage]) -> str:
    names = dict.fromkeys(passage.name for passage in passages)
    files = [
        f"[{name}]\n" + "\n\n".join(each.text for each in passages if each.name == name)
        for name in names
    ]
    return "\n\n".join((*files, question))


def _within(passages: Iterable[Passage], tokens: int) -> list[Passage]:
    """The first of them, as far as there is room."""
    kept = list[Passage]()
    for passage in passages:
        tokens -= estimate_tokens(passage.text)
        if tokens < 0:
            break
        kept.append(passage)
    return kept
