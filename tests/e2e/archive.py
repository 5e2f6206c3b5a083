"""Waiting for the archive, and reading it as it is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import psycopg

WAIT_SECONDS_MAX = 20.0
POLL_SECONDS = 0.05


async def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of a condition. Fails, saying what was waited for."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(POLL_SECONDS)
    return value


async def archived_events(postgres: psycopg.Connection, job_id: str) -> list[dict[str, Any]]:
    """The job's events, once all up to its `done` are there, in order of seq.

    Batches are committed in any order: `done` may be there before what stands in front of it.
    """
    query = "select data::text from events where stream_id = %s order by seq"

    def rows() -> list[dict[str, Any]]:
        found = [json.loads(data) for (data,) in postgres.execute(query, (job_id,))]
        whole = found and found[-1]["type"] == "done" and found[-1]["seq"] == len(found)
        return found if whole else []

    return await until(rows, f"the archive of {job_id}")


def answer_of(postgres: psycopg.Connection, job_id: str) -> str | None:
    """The assistant's message as the read model holds it."""
    query = "select content from messages where job_id = %s and role = 'assistant'"
    row = postgres.execute(query, (job_id,)).fetchone()
    return row[0] if row else None


async def connected(database_url: str) -> psycopg.Connection:
    """A connection, as soon as the server takes one."""

    def connect() -> psycopg.Connection | None:
        try:
            return psycopg.connect(database_url, autocommit=True)
        except psycopg.OperationalError:
            return None

    return await until(connect, "Postgres")
