"""A round of batches into the archive, and what Redis is told about it.

    shares ─▶ threads PROCESSING ─▶ commit ─▶ threads ACTIVE, what is whole may go ─▶ acknowledged
                                      │
                                      └─ one is refused, or stale ─▶ each alone

What Redis is told of all partitions goes in one round trip each time. A share is acknowledged once
it is committed and reported; all before that may be repeated, by anybody, at any time.

Failures
    One share is at fault  The transaction is given up, and each share gets one of its own.
    Postgres away          The round waits here, up to BACKOFF_SECONDS_MAX between two tries, until
                           it is back or the process drains; ``archive_answers`` is False meanwhile.
    A row is held          By another process that is paused: the round waits, until Postgres ends
                           that one's transaction (``shared.postgres``).
    Redis away             The shares are not acknowledged, and come again. Only the announcement
                           that a batch is being processed may be lost.
    One partition's Redis is away   (Of a cluster.) The same, of that partition.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from services.persister.batch import RefusedEvent, Share
from services.persister.patience import happens
from services.persister.rounds import Outcome
from services.persister.store import Archived, StaleBatch, Store
from shared.errors import ArchiveUnavailable, HeadwaterError, LogUnavailable
from shared.keys import PERSISTERS, PartitionKeys
from shared.observability import get_logger
from shared.projection import Projection
from shared.redis_client import Redis, RedisError, translate, translated_error
from shared.retention import Kind, Report, Retention

BACKOFF_SECONDS: Final = 0.1
BACKOFF_SECONDS_MAX: Final = 5.0

log = get_logger()


class Draining(HeadwaterError):
    """The process ends before the archive is back."""


class ArchiveRound:
    """Call it with shares in order of their partitions; it tells what became of each.

    None: archived and acknowledged. RefusedEvent, StaleBatch, Draining: not archived.
    LogUnavailable: archived, perhaps not acknowledged.

    Once ``draining`` is set, what waits for Postgres is let go.
    """

    def __init__(
        self,
        store: Store,
        redis: Redis,
        retention: Retention,
        draining: asyncio.Event,
        *,
        archived: Callable[[Projection], None] = lambda _: None,
    ) -> None:
        """``archived`` is told what each batch meant, once it is committed."""
        self._store, self._redis, self._retention = store, redis, retention
        self._draining = draining
        self._tell = archived
        self.archive_answers = True  # at the last try

    async def __call__(self, shares: Sequence[Share]) -> Sequence[Outcome]:
        begun = time.perf_counter()
        await self._announce(shares)
        tried = dict(zip(shares, await self._commit(shares), strict=True))
        archived = {share: each for share, each in tried.items() if isinstance(each, Archived)}
        failed = {share: each for share, each in tried.items() if isinstance(each, Exception)}
        for share in archived:
            self._tell(share.batch.read_model)
        failed |= await self._report(archived)
        failed |= await self._acknowledge([share for share in archived if share not in failed])
        log.debug(
            "round archived",
            partitions=[share.partition for share in archived],
            count=sum(share.batch.count for share in archived),
            new=sum(each.added for each in archived.values()),
            ms=round((time.perf_counter() - begun) * 1000, 1),
        )
        return [failed.get(share) for share in shares]

    async def check(self) -> bool:
        """Whether Postgres answers now."""
        try:
            await self._store.ping()
        except ArchiveUnavailable:
            self.archive_answers = False
        else:
            self.archive_answers = True
        return self.archive_answers

    async def _commit(self, shares: Sequence[Share]) -> Sequence[Archived | Exception]:
        """All of them, or those that are not at fault."""
        try:
            return await self._commit_patiently(shares)
        except Draining as error:
            return [error] * len(shares)
        except (RefusedEvent, StaleBatch) as error:
            if len(shares) == 1:
                return [error]
        alone = await asyncio.gather(*(self._commit([share]) for share in shares))
        return [each for (each,) in alone]

    async def _commit_patiently(self, shares: Sequence[Share]) -> Sequence[Archived]:
        """Commit, waiting for Postgres as long as it takes."""
        pause = BACKOFF_SECONDS
        while True:
            try:
                archived = await self._store.commit_round(shares)
            except ArchiveUnavailable as error:
                self.archive_answers = False
                partitions = [share.partition for share in shares]
                log.warning(
                    "batch waits", partitions=partitions, reason=str(error), seconds=round(pause, 1)
                )
                if await happens(self._draining, within=pause):
                    raise Draining() from error
                pause = min(2 * pause, BACKOFF_SECONDS_MAX)
            else:
                self.archive_answers = True
                return archived

    async def _announce(self, shares: Sequence[Share]) -> None:
        reports = {
            share: Report(share.partition, share.batch.positions)
            for share in shares
            if share.batch.positions
        }
        for share, error in (await self._told("processing", reports)).items():
            log.warning("processing not announced", partition=share.partition, reason=str(error))

    async def _report(self, archived: Mapping[Share, Archived]) -> dict[Share, Exception]:
        reports = {
            share: Report(share.partition, each.threads, each.finished_jobs)
            for share, each in archived.items()
            if each.threads or each.finished_jobs
        }
        return await self._told("archived", reports)

    async def _told(self, kind: Kind, reports: Mapping[Share, Report]) -> dict[Share, Exception]:
        """Those of which Redis could not be told, and why."""
        if not reports:
            return {}
        try:
            errors = await self._retention.report_many(kind, list(reports.values()))
        except LogUnavailable as error:
            return dict.fromkeys(reports, error)
        return {share: error for share, error in zip(reports, errors, strict=True) if error}

    async def _acknowledge(self, shares: Sequence[Share]) -> dict[Share, Exception]:
        """Those that could not be, and why."""
        if not shares:
            return {}
        try:
            with translate():
                pipeline = cast("Any", self._redis).pipeline(transaction=False)
                for share in shares:
                    pipeline.xack(PartitionKeys(share.partition).log, PERSISTERS, *share.batch.ids)
                replies: list[Any] = await pipeline.execute(raise_on_error=False)
        except LogUnavailable as error:
            return dict.fromkeys(shares, error)
        return {
            share: translated_error(reply)
            for share, reply in zip(shares, replies, strict=True)
            if isinstance(reply, RedisError)
        }
