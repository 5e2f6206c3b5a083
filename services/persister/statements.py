"""The persister's SQL: one statement per table and round.

The upserts are generated from the rules that stand beside the columns (``shared.read_model``), so
that Postgres merges a row exactly as ``shared.projection`` folds one. Rows are written in the order
of their keys: two transactions that meet wait for each other, and never in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Column, Table, TextClause, text
from sqlalchemy.dialects import postgresql

from services.persister.batch import SEPARATOR
from shared.projection import key_of
from shared.read_model import Merge, born
from shared.states import JOB_STATUSES

_DIALECT = postgresql.dialect()
_STATUSES = "ARRAY[" + ", ".join(f"'{status}'" for status in JOB_STATUSES) + "]"


def _split(name: str, kind: str = "text") -> str:
    return f"string_to_array(:{name}, chr({ord(SEPARATOR)}))::{kind}[]"


_ENTRY = f"""
entry AS (
  SELECT * FROM unnest(
    {_split("stream")}, {_split("seq", "integer")}, {_split("thread")},
    {_split("position", "bigint")}, {_split("type")}, {_split("data")},
    {_split("recorded_ms", "float8")}
  ) AS entry (stream_id, seq, thread_id, position, type, data, recorded_ms)
)"""

# Entries come in the order of the log, so transactions that overlap insert in the same order.
# What conflicts is not named: each part of the archive has a key of its own.
# `data` is cast, not built: its text is kept to the letter, and may hold \u0000.
ARCHIVE = text(f"""
WITH {_ENTRY}, added AS (
  INSERT INTO events (stream_id, seq, thread_id, position, type, data, recorded_at)
  SELECT stream_id, seq, thread_id, position, type, data::json, to_timestamp(recorded_ms / 1000)
  FROM entry
  ON CONFLICT DO NOTHING
  RETURNING stream_id
), counted AS (
  SELECT stream_id, count(*) AS added FROM added GROUP BY stream_id
)
SELECT thread_id, stream_id, max(position) AS position, max(seq) AS seq,
       coalesce(max(added), 0) AS added
FROM entry LEFT JOIN counted USING (stream_id)
GROUP BY thread_id, stream_id
""")

# Whether an entry is not the event that the archive has in its place.
DISPLACED = text(f"""
WITH {_ENTRY}
SELECT EXISTS (
  SELECT FROM entry JOIN events USING (stream_id, seq)
  WHERE {born("entry.stream_id")} = {born("events.stream_id")}
    AND (entry.position, entry.data) <> (events.position, events.data::text)
)
""")

# Gives the partitions that still live the life of their batch: `rows` has one of each.
CHECKPOINT = text("""
INSERT INTO checkpoints AS known (partition, log_ms, log_n, event_count, updated_at)
SELECT partition, log_ms, log_n, added, now()
FROM json_to_recordset(CAST(:rows AS json))
  AS said (partition smallint, log_ms bigint, log_n bigint, added bigint)
ORDER BY partition
ON CONFLICT (partition) DO UPDATE SET
  log_ms = greatest(known.log_ms, excluded.log_ms),
  log_n = CASE
    WHEN excluded.log_ms > known.log_ms THEN excluded.log_n
    WHEN excluded.log_ms = known.log_ms THEN greatest(known.log_n, excluded.log_n)
    ELSE known.log_n
  END,
  event_count = known.event_count + excluded.event_count,
  updated_at = excluded.updated_at
WHERE known.life IS NULL OR known.life = CAST(:lives AS json) ->> CAST(known.partition AS text)
RETURNING partition
""")

# Waits for the transactions that have written their checkpoint, and refuses those that have not.
RESTORED = text("""
INSERT INTO checkpoints (partition, log_ms, log_n, event_count, updated_at, life)
SELECT partition, 0, 0, 0, now(), :life
FROM unnest(CAST(:partitions AS smallint[])) AS partition ORDER BY partition
ON CONFLICT (partition) DO UPDATE SET life = excluded.life
""")


def upsert(table: Table, *, returning: Sequence[str]) -> TextClause:
    """Merge the rows of ``:rows``, a JSON array of objects by column name, into a table.

    Returns columns of every merged row, changed or not.
    """
    key = key_of(table)
    names = ", ".join(column.name for column in table.columns)
    types = ", ".join(f"{column.name} {_type(column)}" for column in table.columns)
    values = ", ".join(map(_value, table.columns))
    merges = ", ".join(map(_merge, (c for c in table.columns if c.name != key)))
    return text(f"""
INSERT INTO {table.name} AS known ({names})
SELECT {values} FROM json_to_recordset(CAST(:rows AS json)) AS said ({types})
ORDER BY {key}
ON CONFLICT ({key}) DO UPDATE SET {merges}
RETURNING {", ".join(f"known.{name}" for name in returning)}
""")


def _type(column: Column[object]) -> str:
    return column.type.compile(dialect=_DIALECT)


def _value(column: Column[object]) -> str:
    return (
        f"said.{column.name}"
        if column.nullable or column.server_default is None
        else (f"coalesce(said.{column.name}, 0)")
    )


def _merge(column: Column[object]) -> str:
    name = column.name
    old, new = f"known.{name}", f"excluded.{name}"
    match column.info["merge"]:
        case Merge.LEAST:
            merged = f"least({old}, {new})"
        case Merge.GREATEST:
            merged = f"greatest({old}, {new})"
        case Merge.SUM:
            merged = f"{old} + {new}"
        case Merge.NEWEST:
            at = f"{name}_position"
            merged = f"CASE WHEN excluded.{at} > known.{at} THEN {new} ELSE {old} END"
        case Merge.ONWARD:
            later = f"{_rank(new)} > coalesce({_rank(old)}, 0)"
            merged = f"CASE WHEN {later} THEN {new} ELSE {old} END"
        case _:
            merged = f"coalesce({old}, {new})"
    return f"{name} = {merged}"


def _rank(status: str) -> str:
    return f"array_position({_STATUSES}, {status})"
