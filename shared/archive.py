"""The archive's reading side: threads, jobs, events and turns as Postgres holds them.

Same shapes as ``hot_state``; what is here is what the persister has committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, cast

from psycopg.errors import QueryCanceled
from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Executable,
    Row,
    Text,
    and_,
    exists,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.exc import DBAPIError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql import Select

from shared import ids
from shared.codec import Record, encode
from shared.errors import ArchiveTooSlow, ArchiveUnavailable
from shared.events import Done
from shared.hot_state import READ_COUNT_MAX, Job
from shared.read_model import (
    SCHEMA_REVISION,
    born,
    events,
    jobs,
    messages,
    participants,
    settled,
    threads,
)
from shared.thread_log import Thread, split_users
from shared.times import rfc3339

# Of the transaction. A statement prepared for any parameters would be planned for the average user.
_BOUNDED: Final = text(
    "SELECT set_config('statement_timeout', :milliseconds, true),"
    " set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true)"
)
_REVISION: Final = text("SELECT version_num FROM alembic_version")
_born: Final = literal_column(born("events.stream_id"), Text)
TURNS_MAX: Final = 200  # of a thread's history, before the token budget cuts it
_IN_ORDER: Final = aggregate_order_by(literal("\n", Text), participants.c.present_position)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and, once it has been answered, the answer. ``position`` is the question's."""

    position: int
    job_id: str
    question: str
    answer: str | None
    replaced_position: int | None = None  # it replaces what was said from here on


def thread_columns() -> Select[Any]:
    """The rows that ``thread_from_row`` takes."""
    names = select(func.string_agg(participants.c.user_id, _IN_ORDER)).where(
        participants.c.thread_id == threads.c.thread_id, participants.c.present
    )
    marks = select(
        func.json_object_agg(participants.c.user_id, participants.c.read_position)
    ).where(
        participants.c.thread_id == threads.c.thread_id,
        participants.c.read_position > 0,
        or_(participants.c.present, participants.c.user_id == threads.c.owner),
    )
    listed = names.scalar_subquery().label("participants")
    reads = marks.scalar_subquery().label("reads")
    return select(threads, listed, reads).where(threads.c.owner.is_not(None))


def thread_from_row(row: Row[Any]) -> Thread:
    return Thread(
        thread_id=row.thread_id,
        owner=row.owner,
        participants=split_users(row.participants),
        reads=row.reads or {},
        state="DELETED" if row.deleted_at else "ACTIVE",
        status=row.status or "active",
        title=row.title,
        agent=row.agent,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
        position=row.position,
        seq=row.seq,
        archived=row.position,
        processing=row.position,
        metadata=row.metadata or {},
    )


class Archive:
    """Reads. Raises ArchiveUnavailable; None and empty mean: not, or not yet, in Postgres."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def rows(self, statement: Executable) -> list[Row[Any]]:
        return list((await self._run(statement)).all())

    async def mappings(self, statement: Executable) -> list[Mapping[str, Any]]:
        """The rows as mappings by column name."""
        return [dict(row) for row in (await self._run(statement)).mappings()]

    async def mappings_within(
        self, milliseconds: int, statement: Executable
    ) -> list[Mapping[str, Any]]:
        """The rows of a statement whose cost hangs on its parameters.

        It is planned for these very ones. Raises ArchiveTooSlow.
        """
        return [dict(row) for row in (await self._run(statement, milliseconds)).mappings()]

    async def _run(
        self, statement: Executable, milliseconds: int | None = None
    ) -> CursorResult[Any]:
        """The result, read whole: the connection is back in the pool."""
        try:
            async with self._engine.connect() as connection:
                if milliseconds is not None:
                    await connection.execute(_BOUNDED, {"milliseconds": str(milliseconds)})
                return await connection.execute(statement)
        except (DBAPIError, TimeoutError) as error:
            if milliseconds is not None and isinstance(getattr(error, "orig", None), QueryCanceled):
                raise ArchiveTooSlow(f"It takes longer than {milliseconds} ms.") from error
            raise ArchiveUnavailable(f"Postgres is unavailable: {type(error).__name__}") from error

    async def thread(self, thread_id: str) -> Thread | None:
        rows = await self.rows(thread_columns().where(threads.c.thread_id == thread_id))
        return thread_from_row(rows[0]) if rows else None

    async def job(self, job_id: str) -> Job | None:
        done = and_(
            events.c.stream_id == jobs.c.job_id,
            events.c.seq == jobs.c.last_seq,
            events.c.type == "done",
            _born == ids.born(job_id),
        )
        gone = and_(settled.c.thread_id == jobs.c.thread_id, settled.c.job_id == jobs.c.job_id)
        statement = (
            select(jobs, _text_of_data(), settled.c.job_id.is_not(None).label("is_settled"))
            .select_from(jobs.outerjoin(events, done).outerjoin(settled, gone))
            .where(jobs.c.job_id == job_id, jobs.c.owner.is_not(None))
        )
        rows = await self.rows(statement)
        if not rows:
            return None
        job = _job(rows[0])
        return replace(job, done=await self._last_words(job)) if job.is_settled else job

    async def _last_words(self, job: Job) -> bytes | None:
        """The last event of a job that has none any more, as far as the read model has it."""
        content = func.coalesce(messages.c.content, "").label("content")
        columns = (content, messages.c.finish_reason, messages.c.usage)
        statement = select(*columns).where(messages.c.message_id == job.reply_id)
        said = await self.mappings(statement)
        if not (said and job.finished_at and job.is_over):
            return None
        began = datetime.fromisoformat(job.started_at or job.created_at)
        latency = datetime.fromisoformat(job.finished_at) - began
        done = {
            "job_id": job.job_id,
            "seq": job.last_seq,
            "attempt": job.attempt,
            "at": job.finished_at,
            "status": job.status,
            "message_id": job.reply_id,
            "latency_ms": round(latency.total_seconds() * 1000),
        }
        return encode(Done.model_validate({**said[0], **done}))

    async def settled_position(self, thread_id: str) -> int:
        """Up to where events of the thread may be gone, since they are kept no longer; or 0."""
        last = select(func.coalesce(func.max(settled.c.position), 0))
        return (await self.rows(last.where(settled.c.thread_id == thread_id)))[0][0]

    async def records(
        self, thread_id: str, *, after: int, count: int = READ_COUNT_MAX
    ) -> list[Record]:
        """Archived events behind a position, in order, at most ``count``; may have holes."""
        columns = (events.c.position, events.c.stream_id, events.c.seq, events.c.type)
        statement = (
            select(*columns, _text_of_data())
            .where(events.c.thread_id == thread_id, events.c.position > after)
            .where(or_(_born == "", _born >= ids.jobs_born_since(thread_id)))
            .order_by(events.c.position)
            .limit(count)
        )
        rows = cast("list[Any]", await self.rows(statement))  # by place: names cost as much again
        return [
            Record(position, stream, seq, kind, data.encode())
            for position, stream, seq, kind, data in rows
        ]

    async def turns(self, thread_id: str, *, before: int, limit: int = TURNS_MAX) -> list[Turn]:
        """The newest turns whose question stands before a position, oldest first.

        A turn of which the question or the answer was deleted is none.
        """
        answers, others = messages.alias("answers"), messages.alias("others")
        is_cut = exists().where(
            others.c.job_id == messages.c.job_id, others.c.deleted_at.is_not(None)
        )
        statement = (
            select(
                messages.c.position,
                messages.c.job_id,
                messages.c.content,
                messages.c.replaced_position,
                answers.c.content.label("answer"),
            )
            .select_from(
                messages.outerjoin(
                    answers,
                    and_(answers.c.job_id == messages.c.job_id, answers.c.role == "assistant"),
                )
            )
            .where(
                messages.c.thread_id == thread_id,
                messages.c.role == "user",
                not_(is_cut),
                messages.c.position < before,
            )
            .order_by(messages.c.position.desc())
            .limit(limit)
        )
        return [
            Turn(row.position, row.job_id, row.content, row.answer, row.replaced_position)
            for row in reversed(await self.rows(statement))
        ]

    async def ping(self) -> None:
        """Raises ArchiveUnavailable unless Postgres answers, with a schema that will do."""
        (row,) = await self.rows(_REVISION)
        if row.version_num < SCHEMA_REVISION:
            raise ArchiveUnavailable(f"its schema is {row.version_num}, not {SCHEMA_REVISION}")


def _text_of_data() -> ColumnElement[str]:
    """The event's JSON as it was written, not as a driver would parse and print it again."""
    return literal_column("events.data::text", Text).label("data_text")


def _job(row: Row[Any]) -> Job:
    return Job(
        job_id=row.job_id,
        thread_id=row.thread_id,
        owner=row.owner,
        status=row.status,
        attempt=row.attempt,
        last_seq=row.last_seq,
        first=row.first_position,
        reply_id=row.reply_id,
        trace_id=row.trace_id,
        created_at=rfc3339(row.created_at),
        started_at=rfc3339(row.started_at) if row.started_at else None,
        finished_at=rfc3339(row.finished_at) if row.finished_at else None,
        done=row.data_text.encode() if row.data_text else None,
        is_settled=row.is_settled,
    )
