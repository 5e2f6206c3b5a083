"""What tests of the archive's parts share: looking after it, and seeing where its events are."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.batch import read_batch
from services.persister.keep_archive import KeepArchive, Keeping
from services.persister.periods import DAY_MS, Period, known_parts, missing_periods
from services.persister.store import Store
from shared.keys import PartitionKeys
from tests.integration.persister.writer import LIFE, PARTITIONS, Writer

NOW_MS = round(time.time() * 1000)
LATER_MS = NOW_MS + 100 * DAY_MS
PERIOD_DAYS = 30


def keeper(engine: AsyncEngine, *, days: int = 0) -> KeepArchive:
    return KeepArchive(engine, PARTITIONS, Keeping(PERIOD_DAYS, days))


async def look(engine: AsyncEngine, now_ms: int = NOW_MS, *, days: int = 0) -> None:
    await keeper(engine, days=days).look(now_ms, asyncio.Event())


async def places(engine: AsyncEngine) -> dict[str, int]:
    """How many events each part has, of those that have any."""
    query = "SELECT tableoid::regclass::text, count(*) FROM events GROUP BY 1"
    async with engine.connect() as connection:
        rows = (await connection.execute(text(query))).all()
    return {"period" if name[7:].isdigit() else name: count for name, count in rows}


async def parts(engine: AsyncEngine) -> list[Period]:
    async with engine.connect() as connection:
        return await known_parts(connection)


async def are_made(engine: AsyncEngine) -> bool:
    """Whether the archive has been looked after: there is nothing to do soon."""
    known = await parts(engine)
    return bool(known) and not missing_periods(known, now_ms=NOW_MS, days=PERIOD_DAYS)


async def entries(writer: Writer) -> dict[int, Any]:
    """All that the logs of the partitions hold, to be archived once more."""
    return {p: await writer.redis.xrange(PartitionKeys(p).log) for p in range(PARTITIONS)}


async def archive_again(engine: AsyncEngine, logs: dict[int, Any]) -> int:
    """How many of the entries were new."""
    store = Store(engine)
    commits = [await store.commit(p, read_batch(log), LIFE) for p, log in logs.items() if log]
    return sum(commit.added for commit in commits)
