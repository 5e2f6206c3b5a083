"""The archive's periods: which there are, and making those that come next.

    ── events_20261022 ──┬── events_20261121 ──┬── events_20261221 ──┬── not yet made
                         │        ▲ now        │   PERIODS_AHEAD     │

A period ends where the next one begins. Its length is the setting's at the time it is made, so that
may be changed at any time. What came too early for its period waits among the unplaced, and is
moved when it is made.

Failures
    Persisters away for longer than PERIODS_AHEAD   Jobs born meanwhile are unplaced until then.
    A lock that cannot be had in LOCK_MS_MAX        Tried again at the next look: whoever waits
                                                    for the lock of a table keeps others waiting.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.persister.division import LASTING, UNPLACED
from shared.read_model import born

PERIODS_AHEAD: Final = 2
LOCK_MS_MAX: Final = 2_000
DAY_MS: Final = 86_400_000

_PARTS: Final = text("""
SELECT part.relname AS name, pg_get_expr(part.relpartbound, part.oid) AS bounds
FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid
WHERE inhparent = to_regclass('events') ORDER BY 1
""")
_BOUNDS: Final = re.compile(r"FOR VALUES FROM \((?:MINVALUE|'(\w*)')\) TO \('(\w+)'\)")
_BOUNDED: Final = text(
    f"SELECT set_config('lock_timeout', '{LOCK_MS_MAX}', true),"
    " set_config('statement_timeout', '0', true),"
    " set_config('idle_in_transaction_session_timeout', '60000', true)"
)


class Period(NamedTuple):
    """A part of the archive, by its table, and the births of its jobs: from one to before another.

    Births are milliseconds, in 12 hexadecimal digits (``read_model.born``).
    """

    name: str
    begins: str
    ends: str


def birth(milliseconds: int) -> str:
    return f"{milliseconds:012x}"


async def bound(connection: AsyncConnection) -> None:
    """Let this transaction change tables, and not wait for locks for long."""
    await connection.execute(_BOUNDED)


async def known_parts(connection: AsyncConnection) -> list[Period]:
    """The parts of the archive but the unplaced, oldest first; none while it is not divided."""
    found = [
        Period(row.name, bounds[1] or "", bounds[2])
        for row in await connection.execute(_PARTS)
        if (bounds := _BOUNDS.fullmatch(row.bounds))
    ]
    return sorted(found, key=lambda part: part.begins)


def missing_periods(known: list[Period], *, now_ms: int, days: int) -> list[Period]:
    """The periods to make; the first one ever begins the day before this one."""
    if not known:
        return []
    length, end = days * DAY_MS, int(known[-1].ends, 16)
    if known[-1].name == LASTING:
        end = max(end, now_ms // DAY_MS * DAY_MS - DAY_MS)
    missing: list[Period] = []
    while end < now_ms + PERIODS_AHEAD * length:
        day = datetime.fromtimestamp(end / 1000, UTC)
        missing.append(Period(f"events_{day:%Y%m%d}", birth(end), birth(end + length)))
        end += length
    return missing


async def make_period(connection: AsyncConnection, period: Period) -> None:
    """In a transaction that is bound. Readers and writers of other parts go on."""
    place = f"{born('stream_id')} >= '{period.begins}' AND {born('stream_id')} < '{period.ends}'"
    for statement in (
        # From the top, as everybody locks the archive: attaching takes this one, but last.
        "LOCK TABLE ONLY events IN SHARE UPDATE EXCLUSIVE MODE",
        f"CREATE TABLE {period.name} (LIKE events, PRIMARY KEY (stream_id, seq))",
        f"LOCK TABLE {UNPLACED} IN ACCESS EXCLUSIVE MODE",
        f"WITH moved AS (DELETE FROM {UNPLACED} WHERE {place} RETURNING *)"
        f" INSERT INTO {period.name} SELECT * FROM moved",
        f"ALTER TABLE events ATTACH PARTITION {period.name}"
        f" FOR VALUES FROM ('{period.begins}') TO ('{period.ends}')",
    ):
        await connection.execute(text(statement))
