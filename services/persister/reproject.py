"""Makes the rows of some threads again from all that the archive has of them.

    events ─┬─ counted by stream ────────▶ progress ─┐
            └─ what they say, but tokens ▶ folded ───┴─▶ apply ─▶ threads, messages, jobs

What jobs meant whose events are kept no longer stays, since nothing else tells (``settled_rows``).

The names of the tables mean whatever the connection's search path makes of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.persister.settled_rows import FORGET_COUNTS, SETTLED_ACTIVITY, remove
from services.persister.store import apply
from shared.codec import decode_event
from shared.errors import CodecError
from shared.projection import Progress, Projection
from shared.read_model import PROJECTED

ROWS_PER_READ: Final = 500

STREAMS = text("""
SELECT thread_id, stream_id, max(position), max(seq), count(*) FROM events
WHERE thread_id = ANY(:thread_ids) GROUP BY thread_id, stream_id
UNION ALL
SELECT thread_id, job_id, position, seq, event_count FROM settled
WHERE thread_id = ANY(:thread_ids)
""")
SAID = text("""
SELECT thread_id, position, data::text AS data FROM events
WHERE thread_id = ANY(:thread_ids) AND type <> 'token'
""")


async def reproject(connection: AsyncConnection, thread_ids: Iterable[str]) -> None:
    """Put rows made from all archived events in place of what was projected.

    Raises CodecError for an event that this version cannot read.
    """
    names = {"thread_ids": list(thread_ids)}
    for table in PROJECTED:
        await connection.execute(text(remove(table)), names)
    await connection.execute(FORGET_COUNTS, names)
    async for rows in _in_parts(connection, STREAMS, names):
        await apply(connection, Projection(), [Progress(*row) for row in rows])
    async for rows in _in_parts(connection, SAID, names):
        await apply(connection, _projection(rows), [])
    await connection.execute(SETTLED_ACTIVITY, names)


def _projection(rows: Iterable[Row[Any]]) -> Projection:
    projection = Projection()
    for row in rows:
        try:
            projection.add(row.thread_id, row.position, decode_event(row.data))
        except CodecError as error:
            raise CodecError(f"{row.thread_id} at position {row.position}: {error}") from None
    return projection


async def _in_parts(
    connection: AsyncConnection, statement: TextClause, parameters: dict[str, Any]
) -> AsyncGenerator[Sequence[Row[Any]]]:
    """The rows of a query, a bounded number at a time."""
    options = {"yield_per": ROWS_PER_READ}
    async with connection.stream(statement, parameters, execution_options=options) as result:
        async for rows in result.partitions():
            yield rows
