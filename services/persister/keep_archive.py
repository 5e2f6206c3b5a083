"""Keeps the archive in shape, beside the batches: periods made ahead, and dropped in time.

Every persister looks; whoever has the lock does what is to be done, one transaction a step.

Failures
    Postgres away, a lock in the way   Tried again after RETRY_SECONDS.
    A role that may not change tables  The persister leaves it to `services.persister.keep`, which
                                       runs beside it or daily (docs/operations.md). Until then
                                       events are unplaced: nothing is lost, nothing dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.persister.expiry import delete_jobs, drop_period, expired, holding_job
from services.persister.patience import happens
from services.persister.periods import (
    DAY_MS,
    birth,
    bound,
    known_parts,
    make_period,
    missing_periods,
)
from shared.errors import ArchiveUnavailable, DeploymentError
from shared.observability import get_logger

LOOK_SECONDS: Final = 600.0
RETRY_SECONDS: Final = 10.0
LOCK_KEY: Final = 0x6B656570  # "keep"
TRY_LOCK: Final = text(f"SELECT pg_try_advisory_xact_lock({LOCK_KEY})")
# Asked, not tried out: a refusal would stand in the server's log as an error.
MAY_CHANGE: Final = text("""
SELECT pg_has_role(relowner, 'USAGE') AND has_schema_privilege(relnamespace, 'CREATE')
FROM pg_class WHERE oid = to_regclass('events')
""")

log = get_logger()


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long a period is, and how long events of jobs are kept; 0: for ever."""

    period_days: int
    days: int


class KeepArchive:
    def __init__(self, engine: AsyncEngine, partitions: int, keeping: Keeping) -> None:
        self._engine, self._partitions, self._keeping = engine, partitions, keeping

    async def watch(self, draining: asyncio.Event) -> None:
        """Beside a persister's work, until it drains; left to others if its role may not."""
        try:
            await self.keep(draining)
        except DeploymentError as error:
            log.warning("archive not kept by persisters", reason=str(error))
            await draining.wait()

    async def keep(self, draining: asyncio.Event) -> None:
        """Look again and again, until the process drains.

        Raises DeploymentError for a role that may not change tables.
        """
        pause = 0.0
        while not await happens(draining, within=pause):
            try:
                await self.look(round(time.time() * 1000), draining)
                pause = LOOK_SECONDS
            except ArchiveUnavailable as error:
                log.warning("archive not kept", reason=str(error))
                pause = RETRY_SECONDS

    async def look(self, now_ms: int, draining: asyncio.Event) -> None:
        """Do what is due, or as much of it as can be begun before the process drains.

        Raises ArchiveUnavailable, also when somebody else's lock is in the way, and DeploymentError
        for a role that may not change tables.
        """
        await self._require_right()
        while not draining.is_set() and await self._make_one(now_ms):
            pass
        if not self._keeping.days or not await self._is_divided():
            return
        horizon = birth(now_ms - self._keeping.days * DAY_MS)
        while not draining.is_set() and await self._drop_one(horizon):
            pass
        for partition in range(self._partitions):
            while not draining.is_set() and await self._delete_some(horizon, partition):
                pass

    async def _require_right(self) -> None:
        async with self._alone() as archive:
            if archive is not None and not await archive.scalar(MAY_CHANGE):
                raise DeploymentError("the role may not change the archive's tables")

    async def _make_one(self, now_ms: int) -> bool:
        """Whether there may be more to do; so for the others."""
        async with self._alone() as archive:
            if archive is None:
                return False
            known, days = await known_parts(archive), self._keeping.period_days
            if not known:
                log.warning("archive not divided")
            missing = missing_periods(known, now_ms=now_ms, days=days)
            for period in missing[:1]:
                await make_period(archive, period)
                log.info("period made", period=period.name)
            return bool(missing)

    async def _drop_one(self, horizon: str) -> bool:
        async with self._alone() as archive:
            if archive is None:
                return False
            period = next(expired(await known_parts(archive), horizon), None)
            if period is None:
                return False
            if held := await holding_job(archive, period):
                log.warning("period kept for a job without end", period=period.name, job_id=held)
                return False
            jobs = await drop_period(archive, period)
        log.info("period dropped", period=period.name, jobs=jobs)
        return True

    async def _delete_some(self, horizon: str, partition: int) -> bool:
        async with self._alone() as archive:
            if archive is None:
                return False
            return bool(await delete_jobs(archive, horizon, partition))

    async def _is_divided(self) -> bool:
        async with self._alone() as archive:
            return archive is not None and bool(await known_parts(archive))

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[AsyncConnection | None]:
        """A transaction under the lock; None when another persister has that."""
        try:
            async with self._engine.begin() as connection:
                if await connection.scalar(TRY_LOCK):
                    await bound(connection)
                    yield connection
                else:
                    yield None
        except (DBAPIError, PoolTimeoutError) as error:
            raise ArchiveUnavailable(f"Postgres is unavailable: {type(error).__name__}") from error
