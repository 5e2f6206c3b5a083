"""What was said in a thread before a question: from the archive, and from Redis its newest part."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from shared.archive import Archive, Turn
from shared.hot_state import HotState
from shared.transcript import unarchived

FIRST_QUESTION_POSITION: Final = 2  # right behind thread.created


class ThreadHistory:
    def __init__(self, hot: HotState, archive: Archive) -> None:
        self._hot = hot
        self._archive = archive

    async def before(self, thread_id: str, position: int) -> list[Turn]:
        """The turns whose question stands before a position, oldest first.

        An answer stands behind questions that were waiting when it was given, so a turn is told by
        its job. Raises LogUnavailable, ArchiveUnavailable.
        """
        if position <= FIRST_QUESTION_POSITION:
            return []
        thread = await self._hot.thread(thread_id)
        archived = thread.archived if thread else position
        newest = (await unarchived(self._hot, thread_id, archived=archived)).values()
        answers = {m.job_id: m.content for m in newest if m.role == "assistant"}
        turns = {
            m.job_id: Turn(m.position, m.job_id, m.content, None)
            for m in newest
            if m.role == "user"
        }
        if archived:
            for turn in await self._archive.turns(thread_id, before=position):
                turns[turn.job_id] = turn
        return sorted(
            (
                replace(turn, answer=turn.answer or answers.get(turn.job_id) or None)
                for turn in turns.values()
                if turn.position < position
            ),
            key=lambda turn: turn.position,
        )
