"""Engines for Postgres: asynchronous, through psycopg, with a bounded pool.

A service holds at most as many connections as its pool has places, and says nothing on one of them
that must outlive a transaction: no temporary tables across them, no session's locks, no LISTEN. So
a pooler may stand in between that gives a connection to whoever has a transaction (PgBouncer in
transaction mode). Two things differ then, and only then (``pooled``):

    directly   bounds are options of the connection      statements are prepared, once a connection
    pooled     bounds are set by each transaction        statements are planned each time
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from shared.settings import Settings

POOL_CONNECTIONS: Final = 8
POOL_WAIT_SECONDS_MAX: Final = 5.0
CONNECT_SECONDS_MAX: Final = 5
STATEMENT_MS_MAX: Final = 30_000
IDLE_IN_TRANSACTION_MS_MAX: Final = 5_000  # a process that is paused holds its locks no longer
BOUNDS: Final = {
    "statement_timeout": STATEMENT_MS_MAX,
    "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS_MAX,
}
_SET_BOUNDS: Final = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', true)" for name, value in BOUNDS.items()
)


@dataclass(frozen=True, slots=True)
class Database:
    """Where it is, how many connections a process may have, and whether a pooler is in between."""

    url: str
    connections: int = POOL_CONNECTIONS
    pooled: bool = False

    @classmethod
    def at(cls, url: str, settings: Settings) -> Database:
        """The one at that URL, as the settings say it is used."""
        return cls(url, settings.database_connections, settings.database_pooled)


def engine_url(database_url: str) -> URL:
    """A ``postgresql://`` URL with the driver filled in."""
    return make_url(database_url).set(drivername="postgresql+psycopg")


def create_engine(database: str | Database, *, application: str) -> AsyncEngine:
    """An engine that connects on first use. Dispose of it with ``await engine.dispose()``."""
    known = Database(database) if isinstance(database, str) else database
    engine = create_async_engine(
        engine_url(known.url),
        pool_size=known.connections,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS_MAX,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS_MAX,
            "application_name": f"headwater-{application}",
            **_session(known.pooled),
        },
    )
    if known.pooled:
        event.listen(engine.sync_engine, "begin", _set_bounds)
    return engine


def _session(pooled: bool) -> dict[str, Any]:
    if pooled:
        return {"prepare_threshold": None}
    return {"options": " ".join(f"-c {name}={value}" for name, value in BOUNDS.items())}


def _set_bounds(connection: Connection) -> None:
    connection.exec_driver_sql(_SET_BOUNDS)
