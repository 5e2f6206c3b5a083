"""What Postgres knows of a thread's summary: the newest one, and whether it still holds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_, select

from shared.archive import Archive
from shared.read_model import messages, summaries
from shared.summaries import Summary, summary_from


async def newest_summary(archive: Archive, thread_id: str) -> Summary | None:
    """It may be void. Raises ArchiveUnavailable."""
    statement = select(summaries.c.summary).where(summaries.c.thread_id == thread_id)
    rows = await archive.mappings(statement)
    return summary_from(rows[0]) if rows else None


async def is_void(archive: Archive, thread_id: str, summary: Summary, *, before: int) -> bool:
    """Whether a turn that a summary stands for has changed since.

    Questions that stand behind ``before`` change nothing. Raises ArchiveUnavailable.
    """
    said = messages.alias("said")
    replaced = and_(
        said.c.position > summary.upto,
        said.c.position <= before,
        said.c.replaced_position <= summary.upto,
        said.c.deleted_at.is_(None),
    )
    answered = and_(said.c.role == "assistant", said.c.position > summary.as_of)
    deleted = said.c.deleted_position > summary.as_of

    def happened(*conditions: ColumnElement[Any]) -> ColumnElement[bool]:
        return exists().where(said.c.thread_id == thread_id, *conditions)

    of_it = _is_of(summary, said.c.job_id)
    changed = or_(happened(replaced), happened(answered, of_it), happened(deleted, of_it))
    return bool((await archive.rows(select(changed)))[0][0])


def _is_of(summary: Summary, job_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a job's question is one that the summary stands for."""
    questions = messages.alias("questions")
    return exists().where(
        questions.c.job_id == job_id,
        questions.c.role == "user",
        questions.c.position <= summary.upto,
    )
