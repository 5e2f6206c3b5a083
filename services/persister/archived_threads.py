"""What the archive knows of threads, in the form in which it is put back into Redis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.archive import thread_columns, thread_from_row
from shared.codec import decode_event, encode
from shared.commands import RunJob
from shared.events import MessagePosted
from shared.read_model import UNFINISHED, born, threads
from shared.states import FINAL_STATUSES
from shared.thread_log import archived_fields
from shared.times import rfc3339

UNFINISHED_PER_PAGE: Final = 500
EVENTS_PER_PAGE: Final = 200  # put back by one call of a script

THREADS_SINCE = text("""
SELECT DISTINCT thread_id FROM events WHERE recorded_at >= to_timestamp(:since_ms / 1000.0)
""")
UNFINISHED_JOBS = text(f"""
SELECT job_id, thread_id FROM jobs WHERE {UNFINISHED} AND job_id > :after
ORDER BY job_id LIMIT {UNFINISHED_PER_PAGE}
""")
EVENTS_BEHIND = text(f"""
SELECT position, stream_id, seq, type, data::text AS data FROM events
WHERE thread_id = :thread_id AND position > :position ORDER BY position LIMIT {EVENTS_PER_PAGE}
""")
SETTLED_UP_TO = text("SELECT max(position) FROM settled WHERE thread_id = :thread_id")
# Of a job only what stands up to a position counts: what is behind a hole cannot be put back.
JOBS_UP_TO = text(f"""
SELECT jobs.*, posted.data::text AS posted, done.data::text AS done,
       coalesce(said.seq, 0) AS seq_up_to,
       EXISTS (
         SELECT FROM messages WHERE messages.job_id = jobs.job_id AND deleted_at IS NOT NULL
       ) AS is_unwanted
FROM jobs
JOIN events AS posted ON posted.thread_id = jobs.thread_id AND posted.position = first_position
LEFT JOIN events AS done
  ON done.stream_id = jobs.job_id AND done.seq = last_seq AND done.type = 'done'
     AND done.position <= :position AND {born("done.stream_id")} = {born("jobs.job_id")}
LEFT JOIN LATERAL (
  SELECT max(seq) AS seq FROM events WHERE stream_id = jobs.job_id AND position <= :position
    AND {born("stream_id")} = {born("jobs.job_id")}
) AS said ON true
WHERE jobs.thread_id = :thread_id AND ({UNFINISHED} OR jobs.job_id = ANY(:job_ids))
ORDER BY first_position
""")


@dataclass(frozen=True, slots=True)
class ArchivedThread:
    """``fields`` are the hash's. If it is whole, nothing is missing in front of ``position``."""

    position: int
    fields: dict[str, str | int]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class ArchivedEvents:
    """Events right behind a position, without hole."""

    rows: Sequence[Row[Any]]
    more: bool

    @property
    def arguments(self) -> list[str | int]:
        """As ``restore_thread`` takes them."""
        return [part for row in self.rows for part in row]


async def threads_since(connection: AsyncConnection, since_ms: int) -> list[str]:
    """Threads of which the log got an event at that time or later."""
    rows = await connection.execute(THREADS_SINCE, {"since_ms": since_ms})
    return [row.thread_id for row in rows]


async def unfinished_jobs(connection: AsyncConnection, after: str) -> dict[str, str]:
    """A page of the jobs without an end, in order of their ids: job → thread."""
    rows = await connection.execute(UNFINISHED_JOBS, {"after": after})
    return {row.job_id: row.thread_id for row in rows}


async def events_behind(
    connection: AsyncConnection, thread_id: str, position: int
) -> ArchivedEvents:
    place = {"thread_id": thread_id, "position": position}
    rows = (await connection.execute(EVENTS_BEHIND, place)).all()
    unbroken = [row for expected, row in enumerate(rows, position + 1) if row.position == expected]
    return ArchivedEvents(unbroken, more=len(unbroken) == EVENTS_PER_PAGE)


async def archived_thread(connection: AsyncConnection, thread_id: str) -> ArchivedThread | None:
    """None for a thread the archive does not know."""
    statement = thread_columns().where(threads.c.thread_id == thread_id)
    row = (await connection.execute(statement)).first()
    if row is None:
        return None
    fields = archived_fields(thread_from_row(row))
    return ArchivedThread(row.position, fields, is_whole=row.event_count == row.position)


async def settled_up_to(connection: AsyncConnection, thread_id: str) -> int:
    """The last position of what is kept no longer; 0: all is kept."""
    return await connection.scalar(SETTLED_UP_TO, {"thread_id": thread_id}) or 0


async def jobs_up_to(
    connection: AsyncConnection, thread_id: str, position: int, *, job_ids: Sequence[str]
) -> list[dict[str, Any]]:
    """The thread's unfinished jobs and those named, as they were at a position."""
    place = {"thread_id": thread_id, "position": position, "job_ids": list(job_ids)}
    return [_job(row) for row in (await connection.execute(JOBS_UP_TO, place)).all()]


def _job(row: Row[Any]) -> dict[str, Any]:
    over = row.status in FINAL_STATUSES and row.done is not None
    status = row.status if over else "running" if row.seq_up_to else "queued"
    facts: dict[str, str | int] = {
        "thread": row.thread_id,
        "owner": row.owner,
        "status": status,
        "attempt": row.attempt,
        "seq": row.seq_up_to,
        "first": row.first_position,
        "reply": row.reply_id,
        "agent": row.agent,
        "trace": row.trace_id,
        "created_at": rfc3339(row.created_at),
    }
    if row.started_at:
        facts["started_at"] = rfc3339(row.started_at)
    if over:
        facts["finished_at"] = rfc3339(row.finished_at)
    job = {"job_id": row.job_id, "facts": facts, "command": _command(row.posted)}
    job["is_unwanted"] = row.is_unwanted
    return {**job, "done": row.done} if over else job


def _command(posted: str) -> str:
    """The command that the message was accepted with."""
    event = decode_event(posted.encode())
    assert isinstance(event, MessagePosted)
    command = RunJob.model_validate(event.model_dump(exclude={"type", "v"}))
    return encode(command).decode()


def control(
    *, prefix: str, group: str, life: str, thread_id: str, fields: dict[str, str | int],
    jobs: Sequence[dict[str, Any]],
) -> str:  # fmt: skip
    """The first argument of ``restore_thread``. An empty list is left to Lua as one."""
    place = {"prefix": prefix, "group": group, "life": life, "thread_id": thread_id}
    return json.dumps({**place, "thread": fields, "jobs": jobs})
