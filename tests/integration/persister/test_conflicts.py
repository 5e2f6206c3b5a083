"""Transactions that meet others: rows locked in a circle, parts that are made meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.batch import Entry, read_batch
from services.persister.periods import known_parts, make_period, missing_periods
from services.persister.store import Store
from shared.ids import new_job_id
from tests.integration.persister.test_project_events import thread_entries
from tests.integration.persister.writer import LIFE


async def test_transactions_that_meet_in_a_circle_are_tried_again(engine: AsyncEngine) -> None:
    """Rows are locked in order, so a circle takes an outsider; here it is this test."""
    store, first = Store(engine), thread_entries(b"{}")
    for thread in ("a", "b"):
        await store.commit(0, read_batch(_renamed(first, thread)), LIFE)
    again = read_batch([*_renamed(thread_entries(b"{}", b"{}"), "a"), *_renamed(first, "b")])
    update = text("UPDATE threads SET agent = agent WHERE thread_id = :thread")
    async with engine.connect() as outsider:
        await outsider.execute(text("SET LOCAL deadlock_timeout = '10s'"))  # the other gives way
        await outsider.execute(update, {"thread": "b"})
        commit = asyncio.create_task(store.commit(0, again, LIFE))
        await _until_blocked(engine)
        await outsider.execute(update, {"thread": "a"})
        await outsider.commit()
    assert (await commit).threads == {"a": 2, "b": 1}


async def _until_blocked(engine: AsyncEngine) -> None:
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    async with asyncio.timeout(10), engine.connect() as connection:
        while not await connection.scalar(waiting):
            await connection.rollback()


async def test_a_part_that_is_made_meanwhile_costs_no_event(engine: AsyncEngine) -> None:
    """Postgres has chosen an event's part, waits for its lock, and then finds it does not fit."""
    job_id = new_job_id(0).encode()
    [(entry_id, fields)] = thread_entries(b"{}")
    batch = read_batch([(entry_id, {**fields, b"j": job_id})])
    async with engine.connect() as maker:
        known = await known_parts(maker)
        [period, *_] = missing_periods(known, now_ms=round(time.time() * 1000), days=30)
        await make_period(maker, period)
        commit = asyncio.create_task(Store(engine).commit(0, batch, LIFE))
        await _until_blocked(engine)
        await maker.commit()
    assert (await commit).threads == {"t": 1}


def _renamed(entries: Sequence[tuple[bytes, dict[bytes, bytes]]], thread_id: str) -> list[Entry]:
    job_id = f"job_{thread_id}".encode()
    return [
        (entry_id, {**fields, b"h": thread_id.encode(), b"j": job_id})
        for entry_id, fields in entries
    ]
