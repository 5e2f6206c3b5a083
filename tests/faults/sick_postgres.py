"""What else may be wrong with Postgres than that it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import psycopg
from psycopg import sql

from infra.local.cluster import LocalCluster
from tests.faults.arena import Row

BLOCKED_SECONDS_MAX = 10.0
ADMINISTER_SECONDS_MAX = 60.0
POLL_SECONDS = 0.05
# To wait for a lock is given up by the server: who is cancelled leaves the session behind.
OPTIONS = "-c default_transaction_read_only=off -c lock_timeout=3s"
BLOCKED = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> pg_backend_pid()
"""
THREADS = "SELECT 1 FROM threads WHERE owner = ANY(%s) FOR UPDATE"
TOUCH = "UPDATE threads SET title = title WHERE owner = ANY(%s)"
FULL_DISK = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION full_disk();
"""
SPACE_AGAIN = "DROP TRIGGER full_disk ON events; DROP FUNCTION full_disk()"


@asynccontextmanager
async def configured(row: Row, name: str, value: str) -> AsyncGenerator[None]:
    """The server has this setting in the block, for sessions that are open, too."""
    change = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
    back = sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(name))
    async with row.faults.lasting(f"postgres {name} = {value}"):
        await _administer(row.cluster, change, sql.SQL("SELECT pg_reload_conf()"))
        try:
            yield
        finally:
            await _administer(row.cluster, back, sql.SQL("SELECT pg_reload_conf()"))


@asynccontextmanager
async def full_disk(row: Row) -> AsyncGenerator[None]:
    """Every event meets the error of a full disk: really to fill it would end the server."""
    async with row.faults.lasting("postgres disk full"):
        await _administer(row.cluster, sql.SQL(FULL_DISK))
        try:
            yield
        finally:
            await _administer(row.cluster, sql.SQL(SPACE_AGAIN))


async def deadlock(row: Row) -> None:
    """A persister and another session wait for each other; it is the persister that is refused."""
    async with await _session(row.cluster) as connection, row.faults.lasting("deadlock"):
        await connection.execute("SET LOCAL deadlock_timeout = '60s'")
        await connection.execute(THREADS, (sorted(row.users.users),))
        await _blocked(row.cluster)
        await connection.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")


async def serialization_failure(row: Row) -> None:
    """A row that a persister's transaction wants to change was changed since it began."""
    async with (
        configured(row, "default_transaction_isolation", "repeatable read"),
        await _session(row.cluster) as connection,
    ):
        await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
        await connection.execute(TOUCH, (sorted(row.users.users),))
        await _blocked(row.cluster)


async def _blocked(cluster: LocalCluster) -> None:
    """Wait until some other session waits for a lock."""
    async with asyncio.timeout(BLOCKED_SECONDS_MAX), await _session(cluster) as connection:
        await connection.set_autocommit(True)
        while True:
            found = await connection.execute(BLOCKED)
            if await found.fetchone() != (0,):
                return
            await asyncio.sleep(POLL_SECONDS)


async def _administer(cluster: LocalCluster, *statements: sql.SQL | sql.Composed) -> None:
    """Each statement, as often as a session that stands still amid a transaction is in its way."""
    async with asyncio.timeout(ADMINISTER_SECONDS_MAX), await _session(cluster) as connection:
        await connection.set_autocommit(True)
        for statement in statements:
            while True:
                with suppress(psycopg.errors.LockNotAvailable):
                    await connection.execute(statement)
                    break


async def _session(cluster: LocalCluster) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(cluster.database_url, options=OPTIONS)
