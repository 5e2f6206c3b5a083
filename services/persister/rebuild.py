"""`python -m services.persister.rebuild`: make the read model again from the archive, and compare.

    archive ──▶ projected into tables of its own, thread by thread, while persisters go on
                  │ again for the threads that went on meanwhile, at most PASSES_MAX times
                  ▼
    writers wait: the last few threads ──▶ compare ──▶ replace the rows that differ ──▶ commit

A thread is up to date when the archive has as many events of it as were projected: the archive is
only ever added to. So the first pass finds every thread stale, the next those that got an event
meanwhile, and the last, with the tables locked against writers, those of the last moment. Readers
see the rows before or after, never in between, and are never made to wait.

What rests on events that are kept no longer is taken over as it is (``settled_rows``).

Exit codes: 0 the rows are the same as before, 1 they were not and now are right, 2 it could not be
done and nothing was changed.

Failures
    Interrupted, killed   The tables of its own are left behind, and dropped by the next rebuild.
    Postgres away         Exit code 2.
    An event that this version cannot read: exit code 2, with the event's place.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from rich.console import Console
from rich.progress import Progress as ProgressBar
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.persister.differences import Difference, compare, replace
from services.persister.reproject import reproject
from services.persister.schema import first_line, require_schema
from services.persister.settled_rows import SPARED, take_over
from shared.errors import ArchiveUnavailable, DeploymentError, HeadwaterError
from shared.observability import configure_logging
from shared.postgres import Database, create_engine
from shared.read_model import PROJECTED
from shared.settings import Settings, load_settings

SCHEMA: Final = "rebuilding"
LOCK_KEY: Final = 0x6865616477617465
PASSES_MAX: Final = 3
THREADS_PER_PAGE: Final = 200
IDLE_SECONDS_MAX: Final = 30  # paused for longer, it loses its locks, and fails
SAME, DIFFERENT, FAILED = 0, 1, 2

# Only the keys of an index are read: how many events of each thread the archive has, and the copy.
PAGE = text("""
SELECT thread_id, archived + settled AS archived, coalesce(event_count, 0) AS projected
FROM (
  SELECT thread_id, count(*) AS archived FROM events WHERE thread_id > :after
  GROUP BY thread_id ORDER BY thread_id LIMIT :threads
) AS page LEFT JOIN threads USING (thread_id) CROSS JOIN LATERAL (
  SELECT coalesce(sum(settled.event_count), 0) AS settled FROM settled
  WHERE settled.thread_id = page.thread_id
) AS gone
ORDER BY thread_id
""")
ENTER = text("""
SELECT set_config('search_path', :path, true), set_config('statement_timeout', '0', true),
       set_config('idle_in_transaction_session_timeout', :idle, true)
""")
Advance = Callable[[int], None]


async def rebuild(engine: AsyncEngine, advance: Advance) -> list[Difference]:
    """Make the read model again; what was different. ``advance`` hears of every events projected.

    Raises DeploymentError when another rebuild runs, ArchiveUnavailable, CodecError.
    """
    try:
        async with _workshop(engine) as (connection, live):
            for _ in range(PASSES_MAX):
                async for stale in _stale_threads(connection):
                    await reproject(connection, stale)
                    await connection.commit()
                    advance(sum(stale.values()))
            tables = ", ".join(f"{live}.{table.name}" for table in PROJECTED)
            await connection.execute(text(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE"))
            async for stale in _stale_threads(connection):
                await reproject(connection, stale)
                advance(sum(stale.values()))
            differences = await compare(connection, live, SCHEMA)
            await replace(connection, live, SCHEMA)
        return differences
    except DBAPIError as error:
        raise ArchiveUnavailable(f"Postgres is unavailable: {first_line(error)}") from error


async def count_events(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        return await connection.scalar(text("SELECT count(*) FROM events")) or 0


@asynccontextmanager
async def _workshop(engine: AsyncEngine) -> AsyncGenerator[tuple[AsyncConnection, str]]:
    """A connection on which the names of the read model mean empty tables of its own, and the
    schema in which the true ones are. What is done in the block's last transaction is committed,
    if nobody else could have come in between."""
    async with engine.connect() as lock, engine.connect() as connection:
        await lock.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        if not await lock.scalar(text(f"SELECT pg_try_advisory_xact_lock({LOCK_KEY})")):
            raise DeploymentError("another rebuild is running")
        live = str(await connection.scalar(text("SELECT quote_ident(current_schema())")))
        await connection.commit()
        assert connection.sync_connection is not None
        event.listen(connection.sync_connection, "begin", partial(_enter, live))
        try:
            await _make_tables(connection, live)
            await connection.commit()
            yield connection, live
            await lock.scalar(text("SELECT 1"))
            await connection.commit()
        finally:
            await connection.rollback()
            await connection.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
            await connection.commit()


def _enter(live: str, connection: Connection) -> None:
    """For one transaction, so that a pooler may give the connection to others in between."""
    names = {"path": f"{SCHEMA}, {live}", "idle": f"{IDLE_SECONDS_MAX}s"}
    connection.execute(ENTER, names)


async def _make_tables(connection: AsyncConnection, live: str) -> None:
    await connection.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
    await connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    for table in PROJECTED:
        like = f"LIKE {live}.{table.name} INCLUDING ALL"
        own = f"CREATE UNLOGGED TABLE {SCHEMA}.{table.name} ({like})"
        await connection.execute(text(own))
    for table in SPARED:
        await connection.execute(text(take_over(table, live, SCHEMA)))


async def _stale_threads(connection: AsyncConnection) -> AsyncGenerator[dict[str, int]]:
    """The threads of which not every event is projected, with their number of events, in parts."""
    after = ""
    while True:
        page = {"after": after, "threads": THREADS_PER_PAGE}
        rows = (await connection.execute(PAGE, page)).all()
        if not rows:
            return
        stale = {row.thread_id: row.archived for row in rows if row.archived != row.projected}
        if stale:
            yield stale
        after = rows[-1].thread_id


async def run(settings: Settings, console: Console) -> int:
    database = Database.at(settings.required("database_url"), settings)
    engine = create_engine(database, application="rebuild")
    try:
        await require_schema(engine)
        total = await count_events(engine)
        with ProgressBar(console=console) as bar:
            task = bar.add_task("Projecting", total=total)
            differences = await rebuild(engine, lambda count: bar.advance(task, count))
    finally:
        await engine.dispose()
    for difference in differences:
        console.print(str(difference), highlight=False, markup=False, soft_wrap=True)
    console.print("The rows were different: they are replaced." if differences else "Same rows.")
    return DIFFERENT if differences else SAME


def main() -> int:
    console = Console()
    try:
        settings = load_settings()
        configure_logging(settings, service="rebuild")
        return asyncio.run(run(settings, console))
    except HeadwaterError as error:
        sys.stderr.write(f"rebuild: {error}\n")
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
