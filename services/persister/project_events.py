"""The use case: a batch of log entries goes into the archive and the read model.

    entries ─▶ read_batch ─▶ threads PROCESSING ─▶ commit ─▶ threads ACTIVE, what is whole may go
                  │                                   │
                  └────────── RefusedEvent ◀──────────┘     ArchiveUnavailable: wait, again
                                 │
                     halve, again ─▶ one entry: dead letter

When it returns, every entry is in the archive or among the dead letters, Redis knows it, and the
batch may be acknowledged. All of it may be repeated, by anybody, at any time.

Failures
    One bad event        The batch is halved until the event stands alone and moves to the dead
                         letters: some twenty small transactions, and nothing on the good path.
    Postgres away        The batch waits here, up to BACKOFF_SECONDS_MAX between two tries, until
                         it is back or the process drains; ``archive_answers`` is False meanwhile.
    Redis lost something StaleBatch: what has survived of the batch comes again. If it was read in
                         the present life, the archive has noted a wrong one, which a persister may
                         do that was paused in the middle: all is restored once more.
    Redis away           LogUnavailable: the batch is not acknowledged and will come again. Only
                         the announcement that a batch is being processed may be lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from services.persister.batch import Batch, Entry, RefusedEvent, read_batch
from services.persister.patience import happens
from services.persister.store import Archived, StaleBatch, Store
from shared.continuity import Continuity
from shared.dead_letters import DeadLetters
from shared.errors import ArchiveUnavailable, HeadwaterError, LogUnavailable
from shared.keys import PartitionKeys
from shared.observability import get_logger
from shared.projection import Projection
from shared.retention import Retention

BACKOFF_SECONDS: Final = 0.1
BACKOFF_SECONDS_MAX: Final = 5.0

log = get_logger()


class Draining(HeadwaterError):
    """The process ends before the archive is back."""


class ProjectEvents:
    """Call it with a partition's entries and the life in which they were read.

    Raises LogUnavailable, StaleBatch, Draining: do not acknowledge.

    Once ``draining`` is set, what waits for Postgres is let go.
    """

    def __init__(
        self,
        store: Store,
        retention: Retention,
        dead_letters: DeadLetters,
        continuity: Continuity,
        draining: asyncio.Event,
        *,
        archived: Callable[[Projection], None] = lambda _: None,
    ) -> None:
        """``archived`` is told what each batch meant, once it is committed."""
        self._store = store
        self._tell = archived
        self._retention = retention
        self._dead_letters = dead_letters
        self._continuity = continuity
        self._draining = draining
        self.archive_answers = True  # at the last try

    async def check(self) -> bool:
        """Whether Postgres answers now."""
        try:
            await self._store.ping()
        except ArchiveUnavailable:
            self.archive_answers = False
        else:
            self.archive_answers = True
        return self.archive_answers

    async def __call__(self, partition: int, entries: Sequence[Entry], life: str) -> None:
        begun = time.perf_counter()
        try:
            batch = read_batch(entries)
            await self._announce(partition, batch)
            archived = await self._commit(partition, batch, life)
        except RefusedEvent as error:
            await self._find(partition, entries, life, error)
            return
        except StaleBatch:
            await self._continuity.close(partition, life)
            raise
        self._tell(batch.read_model)
        if archived.threads or archived.finished_jobs:
            await self._retention.report(
                partition, "archived", archived.threads, finished_jobs=archived.finished_jobs
            )
        log.debug(
            "batch archived",
            partition=partition,
            count=len(entries),
            new=archived.added,
            ms=round((time.perf_counter() - begun) * 1000, 1),
        )

    async def _announce(self, partition: int, batch: Batch) -> None:
        if not batch.positions:
            return
        try:
            await self._retention.report(partition, "processing", batch.positions)
        except LogUnavailable as error:
            log.warning("processing not announced", partition=partition, reason=str(error))

    async def _commit(self, partition: int, batch: Batch, life: str) -> Archived:
        """Commit, waiting for Postgres as long as it takes."""
        pause = BACKOFF_SECONDS
        while True:
            try:
                archived = await self._store.commit(partition, batch, life)
            except ArchiveUnavailable as error:
                self.archive_answers = False
                log.warning(
                    "batch waits", partition=partition, reason=str(error), seconds=round(pause, 1)
                )
                if await happens(self._draining, within=pause):
                    raise Draining() from error
                pause = min(2 * pause, BACKOFF_SECONDS_MAX)
            else:
                self.archive_answers = True
                return archived

    async def _find(
        self, partition: int, entries: Sequence[Entry], life: str, error: RefusedEvent
    ) -> None:
        """Narrow a refusal down to the entries it is about, and archive the others."""
        if len(entries) > 1:
            half = len(entries) // 2
            await self(partition, entries[:half], life)
            await self(partition, entries[half:], life)
            return
        entry_id = entries[0][0].decode()
        log.warning("poison event", partition=partition, entry=entry_id, reason=str(error))
        await self._dead_letters.move_event(PartitionKeys(partition), entry_id, str(error))
