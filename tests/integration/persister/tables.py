"""What the database holds, and what it should hold after a history: rows as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Table, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.codec import Record, decode_event
from shared.projection import Progress, Projection, key_of
from shared.read_model import PROJECTED

Tables = dict[str, dict[str, dict[str, Any]]]


async def read_model(engine: AsyncEngine) -> Tables:
    async with engine.connect() as connection:
        return {
            table.name: _by_key(
                table, [dict(row) for row in (await connection.execute(select(table))).mappings()]
            )
            for table in PROJECTED
        }


def expected_read_model(histories: Mapping[str, Iterable[Record]]) -> Tables:
    """The rows that threads' whole histories come to, each event taken once, in order."""
    projection = Projection()
    for thread_id, records in histories.items():
        for record in records:
            position, stream, seq, kind, data = record
            if kind != "token":
                projection.add(thread_id, position, decode_event(data))
            projection.advance(Progress(thread_id, stream, position, seq, 1))
    return {
        table.name: _by_key(table, (_filled(table, row) for row in rows.values()))
        for table, rows in projection.rows.items()
    }


async def archive(engine: AsyncEngine) -> dict[str, list[Record]]:
    """Each thread's events, by position, their data to the letter."""
    query = text(
        "SELECT thread_id, position, stream_id, seq, type, data::text FROM events"
        " ORDER BY thread_id, position"
    )
    found: dict[str, list[Record]] = {}
    async with engine.connect() as connection:
        for thread_id, position, stream, seq, kind, data in (await connection.execute(query)).all():
            record = Record(position, stream, seq, kind, data.encode())
            found.setdefault(thread_id, []).append(record)
    return found


def _by_key(table: Table, rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row[key_of(table)]: dict(row) for row in rows}


def _filled(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with every column: unknown is NULL, or 0 for a number that counts."""
    return {
        column.name: row.get(column.name, None if column.server_default is None else 0)
        for column in table.columns
    }
