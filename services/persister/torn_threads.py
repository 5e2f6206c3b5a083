"""Threads of which the archive has something behind a hole that nobody can fill any more.

Persisters archive side by side. While one holds a batch that it cannot commit, another archives
what comes behind it; usually the first one follows, or somebody takes its batch over. When Redis
loses its end in just that moment, the batch is lost with it, and what stands behind it in the
archive was numbered after events that nobody has. Redis would give these numbers out again.

    archive  1 2 3 4 · 6 7        Redis knows 1 … 3, or nothing
                   ▲ └─┴─ taken out; the rows of the thread are made again from 1 … 4

The archive is then what it is in any other loss: the beginning of the thread. A worker that lives
says the rest again; otherwise the answer begins anew.

A hole that Redis fills stays open until somebody takes the batch over. What is behind it, and
beyond Redis, is put back from here, unless the hole has the beginning in it: of the thread or of
the job, without which neither is known here. Then that is taken out too.

What is kept no longer (``expiry``) leaves holes too: up to there nothing is looked at.

Failures
    A hole that is older   Not of this loss: an event that was given up on (a dead letter) leaves
                           one for good. What is behind it for more than HOLE_SECONDS_MAX stays.
    An event given up on within that time is taken for a hole like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.persister.reproject import reproject

HOLE_SECONDS_MAX: Final = 60  # a batch is held by somebody who cannot commit it for a few leases

_SINCE = f"(SELECT to_timestamp(max(log_ms) / 1000.0 - {HOLE_SECONDS_MAX}) FROM checkpoints)"
TORN = text(f"""
SELECT thread_id FROM threads
WHERE thread_id IN (SELECT thread_id FROM events WHERE recorded_at > {_SINCE})
  AND event_count < position
ORDER BY thread_id FOR UPDATE
""")
BEHIND_HOLE = text(f"""
SELECT position
FROM (
  SELECT position, recorded_at, row_number() OVER (ORDER BY position) + known AS expected
  FROM (
    SELECT greatest(:known, max(settled.position)) AS known FROM settled
    WHERE settled.thread_id = :thread_id
  ) AS whole, events
  WHERE thread_id = :thread_id AND position > known
) AS behind
WHERE position > expected AND recorded_at > {_SINCE}
ORDER BY position LIMIT 1
""")
WITHOUT_BEGINNING = text(f"""
SELECT min(events.position) FROM events
JOIN threads USING (thread_id) LEFT JOIN jobs ON jobs.job_id = events.stream_id
WHERE events.thread_id = :thread_id AND events.position > :known AND recorded_at > {_SINCE}
  AND (threads.owner IS NULL OR (jobs.job_id IS NOT NULL AND jobs.first_position IS NULL))
""")
CUT = text("DELETE FROM events WHERE thread_id = :thread_id AND position >= :position")


async def torn(connection: AsyncConnection) -> list[str]:
    """Threads of which an event is missing, locked for this transaction."""
    return [row.thread_id for row in await connection.execute(TORN)]


async def cut(connection: AsyncConnection, known: Mapping[str, int]) -> int:
    """Take out what cannot be put back, beyond the position that Redis knows of each thread.

    Returns the number of events.
    """
    events, threads = 0, list[str]()
    for thread_id, position in known.items():
        beyond = {"thread_id": thread_id, "known": position}
        found: list[int] = []
        for statement in (BEHIND_HOLE, WITHOUT_BEGINNING):
            first = await connection.scalar(statement, beyond)
            found += [] if first is None else [first]
        if found:
            place = {"thread_id": thread_id, "position": min(found)}
            events += (await connection.execute(CUT, place)).rowcount
            threads.append(thread_id)
    await reproject(connection, threads)
    return events
