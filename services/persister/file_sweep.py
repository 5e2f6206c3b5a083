"""Removes from the store what no file stands for any more. The persister has it: it knows first.

    thread.deleted, file.deleted archived ──▶ noted ──▶ their objects removed, at the next step
    every SWEEP_SECONDS, and at the start ──▶ the whole store, page by page:

        object's file            in the archive, its thread is there   ─▶ stays
                                 deleted, or its thread is             ─▶ removed
                                 not in the archive, nor on its way,
                                 and older than ORPHAN_AGE             ─▶ removed
        not of a thread of ours                                        ─▶ stays, whatever it is

Nothing is kept of what was removed: the store itself says what is left to do. So all of it may be
repeated, by any number of persisters at once, and a note that is lost with its process costs time.

An upload that dies between store and log leaves such an orphan; ORPHAN_AGE is longer than any
upload takes. Objects of a thread that the archive does not know are never touched: the store may
be shared, or named by mistake.

Failures
    Store, Redis or Postgres away   The pass ends there; the next one begins anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Table, text

from services.persister.patience import happens
from shared.archive import Archive
from shared.errors import ArchiveUnavailable, FilesUnavailable, LogUnavailable
from shared.file_store import FileStore, StoredObject
from shared.hot_state import HotState
from shared.ids import thread_of_file
from shared.observability import get_logger
from shared.projection import Projection
from shared.read_model import files, threads

STEP_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 3600.0
ORPHAN_AGE: Final = timedelta(hours=24)
NOTED_MAX: Final = 10_000  # threads and files; what is more than that waits for a sweep

STANDING: Final = text("""
SELECT named.file_id, files.name IS NOT NULL AS is_known,
       files.deleted_at IS NOT NULL OR threads.deleted_at IS NOT NULL AS is_gone
FROM unnest(CAST(:file_ids AS text[]), CAST(:thread_ids AS text[])) AS named (file_id, thread_id)
JOIN threads ON threads.thread_id = named.thread_id AND threads.owner IS NOT NULL
LEFT JOIN files ON files.file_id = named.file_id
""")

log = get_logger()


class FileSweep:
    def __init__(
        self, store: FileStore, hot: HotState, archive: Archive, *, orphan_age: timedelta
    ) -> None:
        self._store, self._hot, self._archive = store, hot, archive
        self._orphan_age = orphan_age
        self._threads, self._files = set[str](), set[str]()

    def note(self, archived: Projection) -> None:
        """Take note of deletions that are in the archive now."""
        if len(self._threads) + len(self._files) < NOTED_MAX:
            self._threads |= _deleted(archived, threads)
            self._files |= _deleted(archived, files)

    async def watch(self, draining: asyncio.Event) -> None:
        due = 0.0
        while not await happens(draining, within=STEP_SECONDS):
            try:
                await self.remove_noted()
                if time.monotonic() >= due:
                    due = time.monotonic() + SWEEP_SECONDS
                    await self.sweep()
            except (FilesUnavailable, ArchiveUnavailable, LogUnavailable) as error:
                log.warning("files not swept", reason=str(error))

    async def remove_noted(self) -> None:
        """Raises FilesUnavailable: what is not yet removed stays noted."""
        while self._threads:
            thread_id = next(iter(self._threads))
            async for page in self._store.pages(thread_id=thread_id):
                await self._remove(page)
            self._threads.discard(thread_id)
        while self._files:
            file_id = next(iter(self._files))
            await self._store.remove_file(file_id)
            self._files.discard(file_id)

    async def sweep(self) -> int:
        """Go through the whole store; how many objects were removed.

        Raises FilesUnavailable, ArchiveUnavailable, LogUnavailable.
        """
        removed = await self._store.tidy(self._orphan_age)
        async for page in self._store.pages():
            dead = await self._dead(page)
            await self._remove(dead)
            removed += len(dead)
        log.info("files swept", removed=removed)
        return removed

    async def _dead(self, objects: Sequence[StoredObject]) -> list[StoredObject]:
        before = datetime.now(UTC) - self._orphan_age
        ours = [each for each in objects if each.file_id is not None]
        gone, unknown = await self._standing({str(each.file_id) for each in ours})
        old = {str(each.file_id) for each in ours if each.modified_at < before} & unknown
        orphans = await self._orphans(old) if old else set[str]()
        return [each for each in ours if each.file_id in gone | orphans]

    async def _orphans(self, file_ids: Collection[str]) -> set[str]:
        """Those that no event names, also none that waits to be archived.

        Redis is asked first: what leaves it in between is found in the archive.
        """
        places = [thread_of_file(file_id) for file_id in file_ids]
        hot = await self._hot.threads(places)
        waiting = {each.thread_id for each in hot if each and each.archived < each.position}
        settled = {each for each in file_ids if thread_of_file(each) not in waiting}
        return (await self._standing(settled))[1]

    async def _standing(self, file_ids: Collection[str]) -> tuple[set[str], set[str]]:
        """Of files in threads that the archive has: which are gone, and which it does not know."""
        ids = list(file_ids)
        threads_of = [thread_of_file(file_id) for file_id in ids]
        statement = STANDING.bindparams(file_ids=ids, thread_ids=threads_of)
        rows = await self._archive.rows(statement)
        gone = {row.file_id for row in rows if row.is_gone}
        return gone, {row.file_id for row in rows if not row.is_known} - gone

    async def _remove(self, objects: Iterable[StoredObject]) -> None:
        await self._store.remove(each.path for each in objects)


def _deleted(archived: Projection, table: Table) -> set[str]:
    return {key for key, row in archived.rows[table].items() if row.get("deleted_at")}
