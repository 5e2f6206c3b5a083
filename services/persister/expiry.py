"""Lets go of events of jobs that are kept no longer. The read model keeps what they meant.

    a period that is over ──▶ a job of it without an end? ── yes ──▶ it stays, and all later ones
                                    │ no
                                    ▼
              settled: how far each job went ──▶ the period's table is dropped      one transaction

Jobs that are in no period (from before the archive was divided, or of a clock that was far off) are
deleted, JOBS_PER_STEP at a time, and settled in the same way.

What was dropped is settled, not missing. `settled` stands for it: a rebuild takes over the rows of
such jobs and counts their events as archived, a restore does not look for them, an event of theirs
that comes once more is skipped (``division``), and readers are told that it is gone.

Failures
    Interrupted    Each step is a transaction of its own: done, or not begun.
    A lock that cannot be had, a reader that is slow: tried again at the next look.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.persister.division import LASTING, UNPLACED
from services.persister.periods import Period
from shared.read_model import UNFINISHED, born

JOBS_PER_STEP: Final = 200

# Of what a table's rows say. A job that is settled in two steps has been torn by its clock.
_SETTLE: Final = """
INSERT INTO settled AS known (thread_id, job_id, position, seq, event_count)
SELECT thread_id, stream_id, max(position), max(seq), count(*) FROM {gone}
GROUP BY thread_id, stream_id ORDER BY thread_id, stream_id
ON CONFLICT (thread_id, job_id) DO UPDATE SET
  position = greatest(known.position, excluded.position),
  seq = greatest(known.seq, excluded.seq), event_count = known.event_count + excluded.event_count
"""
_DELETE: Final = """
WITH old AS (
  SELECT DISTINCT stream_id FROM {part}
  WHERE stream_id >= :first AND stream_id < :last AND NOT EXISTS (
    SELECT FROM jobs WHERE job_id = stream_id AND {unfinished}
  )
  LIMIT {jobs}
), gone AS (
  DELETE FROM {part} USING old WHERE {part}.stream_id = old.stream_id
  RETURNING thread_id, {part}.stream_id, position, seq
)
"""
_HELD: Final = text(f"""
SELECT job_id FROM jobs WHERE {UNFINISHED} AND {born("job_id")} < :ends LIMIT 1
""")


def expired(known: list[Period], horizon: str) -> Iterator[Period]:
    """The periods of which every job was born before the horizon, oldest first."""
    return (part for part in known if part.ends <= horizon and part.name != LASTING)


async def holding_job(connection: AsyncConnection, period: Period) -> str | None:
    """A job without an end that was born before the period's."""
    return await connection.scalar(_HELD, {"ends": period.ends})


async def drop_period(connection: AsyncConnection, period: Period) -> int:
    """Settle its jobs and drop it, in a transaction that is bound: the number of jobs.

    Writers of this period wait; all others, and readers, only while it is taken out.
    """
    await connection.execute(text(f"LOCK TABLE {period.name} IN SHARE MODE"))
    jobs = (await connection.execute(text(_SETTLE.format(gone=period.name)))).rowcount
    await connection.execute(text(f"ALTER TABLE events DETACH PARTITION {period.name}"))
    await connection.execute(text(f"DROP TABLE {period.name}"))
    return jobs


async def delete_jobs(connection: AsyncConnection, horizon: str, partition: int) -> int:
    """Settle and delete some jobs of a partition of the log that are in no period: how many."""
    births = {"first": f"job_{partition:02x}", "last": f"job_{partition:02x}{horizon}"}
    deleted = 0
    for part in (LASTING, UNPLACED):
        statement = _DELETE.format(part=part, unfinished=UNFINISHED, jobs=JOBS_PER_STEP)
        settle = text(statement + _SETTLE.format(gone="gone"))
        deleted += (await connection.execute(settle, births)).rowcount
    return deleted
