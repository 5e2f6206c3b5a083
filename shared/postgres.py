"""Engines for Postgres: asynchronous, through psycopg, with a bounded pool."""

from __future__ import annotations

from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

POOL_CONNECTIONS: Final = 8
POOL_WAIT_SECONDS_MAX: Final = 5.0
CONNECT_SECONDS_MAX: Final = 5
STATEMENT_MS_MAX: Final = 30_000
IDLE_IN_TRANSACTION_MS_MAX: Final = 5_000  # a process that is paused holds its locks no longer


def engine_url(database_url: str) -> URL:
    """A ``postgresql://`` URL with the driver filled in."""
    return make_url(database_url).set(drivername="postgresql+psycopg")


def create_engine(
    database_url: str, *, application: str, connections: int = POOL_CONNECTIONS
) -> AsyncEngine:
    """An engine that connects on first use. Dispose of it with ``await engine.dispose()``."""
    return create_async_engine(
        engine_url(database_url),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS_MAX,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS_MAX,
            "application_name": f"headwater-{application}",
            "options": f"-c statement_timeout={STATEMENT_MS_MAX}"
            f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS_MAX}",
        },
    )
