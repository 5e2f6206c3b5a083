"""What was said in a thread before a question: from the archive, and from Redis its newest part."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from services.orchestrator.graph.recollection import Hidden, History
from shared.archive import Archive, Turn
from shared.errors import ArchiveUnavailable, LogUnavailable
from shared.hot_state import HotState
from shared.observability import get_logger
from shared.transcript import unarchived

FIRST_QUESTION_POSITION: Final = 2  # right behind thread.created
RETRY_SECONDS: Final = 0.25
POSITION_MAX: Final = 2**62

log = get_logger()


class ThreadHistory:
    def __init__(self, hot: HotState, archive: Archive) -> None:
        self._hot = hot
        self._archive = archive

    async def before(self, thread_id: str, position: int) -> History:
        """What was said before the question at a position.

        What a later question has replaced, also the one at the position, is left out. Waits while
        a store is away: an answer without its context would be wrong. The job's deadline is the
        bound.
        """
        if position <= FIRST_QUESTION_POSITION:
            return History((), as_of=position)
        while True:
            try:
                return await self._read(thread_id, position)
            except (ArchiveUnavailable, LogUnavailable) as error:
                log.warning("history cannot be read, will try again", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _read(self, thread_id: str, position: int) -> History:
        """An answer stands behind questions that waited when it was given: a turn is one job's."""
        thread = await self._hot.thread(thread_id)
        archived = thread.archived if thread else position
        tail = await unarchived(self._hot, thread_id, archived=archived)
        newest, cut = tail.messages.values(), {tail.rows[each]["job_id"] for each in tail.deleted}
        answers = {said.job_id: said.content for said in newest if said.role == "assistant"}
        turns = {
            said.job_id: Turn(
                said.position, said.job_id, said.content, None, said.replaced_position
            )
            for said in newest
            if said.role == "user"
        }
        if archived:
            archive = await self._archive.turns(thread_id, before=position + 1)
            turns |= {turn.job_id: turn for turn in archive}
        told = sorted(
            (
                replace(turn, answer=turn.answer or answers.get(turn.job_id) or None)
                for turn in turns.values()
                if turn.position <= position and turn.job_id not in cut
            ),
            key=lambda turn: turn.position,
        )
        changes = [(said.job_id, said.position) for said in newest if said.role == "assistant"]
        deletions = (tail.rows[each] for each in tail.deleted)
        changes += ((row["job_id"], row["deleted_position"]) for row in deletions)
        replaced = [(t.position, t.replaced_position) for t in told if t.replaced_position]
        return History(
            [turn for turn in standing(told) if turn.position < position],
            as_of=thread.position if thread else position,
            archived=archived,
            summary=tail.summary,
            questions={job_id: turn.position for job_id, turn in turns.items()},
            changes=changes,
            hidden=Hidden(frozenset(cut), replaced),
        )


def standing(turns: Sequence[Turn]) -> list[Turn]:
    """The turns, oldest first, but for those that a later one has replaced.

    1   2   3   4 replaces 2   5   ──▶   1   4   5
    """
    kept, replaced = list[Turn](), POSITION_MAX
    for turn in reversed(turns):
        if turn.position < replaced:
            kept.append(turn)
        replaced = min(replaced, turn.replaced_position or POSITION_MAX)
    return kept[::-1]
