"""The archive's division into parts, as revision 0008 of the schema makes it. See ``read_model``.

    events (one table) ──renamed──▶ events_lasting ──attached──▶ events (divided)
                                                                  events_unplaced: the default

No row is copied or looked at: what was the archive is a part of it now. Both parts that are not of
a period skip jobs that are settled, so that what comes once more after it was dropped is no news.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, text

from shared.read_model import born

LASTING: Final = "events_lasting"
UNPLACED: Final = "events_unplaced"

_DIVIDE: Final = (
    f"ALTER TABLE events RENAME TO {LASTING}",
    f"ALTER INDEX events_pkey RENAME TO {LASTING}_pkey",
    f"ALTER INDEX events_by_position RENAME TO {LASTING}_by_position",
    f"ALTER INDEX events_by_time RENAME TO {LASTING}_by_time",
    f"CREATE TABLE events (LIKE {LASTING}) PARTITION BY RANGE ({born('stream_id')})",
    "CREATE INDEX events_by_position ON events (thread_id, position)",
    "CREATE INDEX events_by_time ON events USING brin (recorded_at)",
    f"ALTER TABLE events ATTACH PARTITION {LASTING} FOR VALUES FROM (MINVALUE) TO ('{{until}}')",
    f"CREATE TABLE {UNPLACED} PARTITION OF events (PRIMARY KEY (stream_id, seq)) DEFAULT",
    """
CREATE FUNCTION skip_settled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM settled WHERE thread_id = NEW.thread_id AND job_id = NEW.stream_id) THEN
    RETURN NULL;
  END IF;
  RETURN NEW;
END $$""",
    *(
        f"CREATE TRIGGER skip_settled BEFORE INSERT ON {part} FOR EACH ROW"
        " WHEN (left(NEW.stream_id, 4) = 'job_') EXECUTE FUNCTION skip_settled()"
        for part in (LASTING, UNPLACED)
    ),
)
_UNDIVIDE: Final = (
    f"ALTER TABLE events DETACH PARTITION {LASTING}",
    "DROP FUNCTION skip_settled CASCADE",
    f"INSERT INTO {LASTING} SELECT * FROM events ORDER BY recorded_at",
    "DROP TABLE events",
    f"ALTER TABLE {LASTING} RENAME TO events",
    f"ALTER INDEX {LASTING}_pkey RENAME TO events_pkey",
    f"ALTER INDEX {LASTING}_by_position RENAME TO events_by_position",
    f"ALTER INDEX {LASTING}_by_time RENAME TO events_by_time",
)


def is_divided(connection: Connection) -> bool:
    kind = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass('events')"
    return bool(connection.scalar(text(kind)))


def divide(connection: Connection, *, until: str) -> None:
    """Jobs born before ``until`` (see ``born``) stay in the one table that there is.

    Postgres reads it through, locked, unless a constraint says already that there are no others.
    """
    for statement in _DIVIDE:
        connection.exec_driver_sql(statement.replace("{until}", until))


def undivide(connection: Connection) -> None:
    """All in one table again. Copies what is in periods."""
    for statement in _UNDIVIDE:
        connection.exec_driver_sql(statement)
