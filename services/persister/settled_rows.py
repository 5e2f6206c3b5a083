"""The rows of the read model that rest on events which are kept no longer. SQL, no I/O.

    jobs         of settled jobs
    messages     their answers
    summaries    newest ones that a settled job made
    threads      their activity, by the ends of these jobs; all else is said by events that are kept

They are spared when rows are made again, and taken over into a copy of the tables. What is there is
right: nothing else is left to tell. Events that are kept are then merged into them, as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Table, text

from shared.read_model import jobs, messages, summaries

_OF_SETTLED_JOB: Final = """EXISTS (
  SELECT FROM settled
  WHERE settled.thread_id = {table}.thread_id AND settled.job_id = {table}.job_id
)"""
SPARED: Final[Mapping[Table, str]] = {
    jobs: _OF_SETTLED_JOB.format(table="jobs"),
    messages: f"role = 'assistant' AND {_OF_SETTLED_JOB.format(table='messages')}",
    summaries: """EXISTS (
  SELECT FROM settled
  WHERE settled.thread_id = summaries.thread_id AND settled.position > summary_position
)""",
}

# How many events a settled job had is told by `settled`, and counted once more.
FORGET_COUNTS: Final = text("UPDATE jobs SET event_count = 0 WHERE thread_id = ANY(:thread_ids)")
SETTLED_ACTIVITY: Final = text(f"""
UPDATE threads SET updated_at = greatest(updated_at, ended.at)
FROM (
  SELECT thread_id, max(finished_at) AS at FROM jobs
  WHERE thread_id = ANY(:thread_ids) AND {SPARED[jobs]} GROUP BY thread_id
) AS ended
WHERE threads.thread_id = ended.thread_id
""")


def remove(table: Table) -> str:
    """Deletes the rows of ``:thread_ids`` that events tell of."""
    kept = SPARED.get(table)
    sparing = f" AND NOT ({kept})" if kept else ""
    return f"DELETE FROM {table.name} WHERE thread_id = ANY(:thread_ids){sparing}"


def take_over(table: Table, live: str, copy: str) -> str:
    """Copies the others from one schema to another."""
    return (
        f"INSERT INTO {copy}.{table.name} SELECT * FROM {live}.{table.name} AS {table.name}"
        f" WHERE {SPARED[table]}"
    )
