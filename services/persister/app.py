"""The persister put together: adapters in, a service out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from faststream.redis import RedisBroker
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.archive_round import ArchiveRound
from services.persister.consumer import Consumer, Lease
from services.persister.file_sweep import ORPHAN_AGE, FileSweep
from services.persister.keep_archive import KeepArchive, Keeping
from services.persister.patience import happens
from services.persister.project_events import ProjectEvents
from services.persister.restore import Restore
from services.persister.schema import require_schema
from services.persister.store import Store
from shared.archive import Archive
from shared.continuity import Continuity
from shared.dead_letters import DeadLetters
from shared.deployment import prepare
from shared.errors import LogUnavailable
from shared.file_store import FileStore
from shared.hot_state import HotState
from shared.observability import get_logger
from shared.probes import takes_writes
from shared.redis_client import Redis
from shared.retention import Retention
from shared.settings import Settings

TRIM_SECONDS: Final = 1.0
PING_EVERY_SECONDS: Final = 5.0

log = get_logger()


class Watcher(Protocol):
    """What goes on beside the batches."""

    async def watch(self, draining: asyncio.Event) -> None:
        """Until the event is set."""
        ...


class Persister:
    """A ``lifecycle.Service``. Draining commits and acknowledges the batches in hand."""

    def __init__(
        self,
        *,
        redis: Redis,
        engine: AsyncEngine,
        partitions: int,
        consumer: Consumer,
        archive: ArchiveRound,
        retention: Retention,
        watchers: Mapping[str, Watcher],
        draining: asyncio.Event,
    ) -> None:
        self._redis, self._engine, self._partitions = redis, engine, partitions
        self._consumer, self._archive, self._retention = consumer, archive, retention
        self._watchers, self._draining = watchers, draining
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._draining.clear()
        await require_schema(self._engine)
        await prepare(self._redis, self._partitions)
        await self._consumer.start()
        self._background = [
            asyncio.create_task(self._trim_behind(), name="trim"),
            asyncio.create_task(self._ping_when_idle(), name="ping"),
            *(
                asyncio.create_task(watcher.watch(self._draining), name=name)
                for name, watcher in self._watchers.items()
            ),
        ]

    async def is_ready(self) -> bool:
        if not (self._background and self._consumer.is_running and self._archive.archive_answers):
            return False
        redis, postgres = await asyncio.gather(takes_writes(self._redis), self._archive.check())
        return redis and postgres

    async def failed(self) -> str:
        stopped = asyncio.create_task(self._consumer.failed())
        try:
            watched = [stopped, *self._background]
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return stopped.result()
            name, error = next((t.get_name(), t.exception()) for t in watched if t.done())
            return f"{name} ended: {error!r}"
        finally:
            stopped.cancel()

    async def drain(self) -> None:
        self._draining.set()
        await self._consumer.stop()
        await self._trim()

    async def stop(self) -> None:
        self._draining.set()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._background = []
        await self._consumer.stop()

    async def _trim_behind(self) -> None:
        """Cut the logs in which something was acknowledged, at most once a second each."""
        while not await happens(self._draining, within=TRIM_SECONDS):
            await self._trim()

    async def _trim(self) -> None:
        trimmable = self._consumer.trimmable
        while trimmable:
            partition = trimmable.pop()
            try:
                await self._retention.trim(partition)
            except LogUnavailable as error:
                trimmable.add(partition)
                log.warning("log not trimmed", partition=partition, reason=str(error))
                return

    async def _ping_when_idle(self) -> None:
        """A persister without events to archive would not notice that Postgres is back."""
        while not await happens(self._draining, within=PING_EVERY_SECONDS):
            await self._archive.check()


def assemble(
    settings: Settings, *, redis: Redis, broker: RedisBroker, engine: AsyncEngine
) -> Persister:
    """The persister on its adapters, which stay the caller's to close."""
    retention = Retention(redis, idle_ttl_seconds=settings.idle_ttl_seconds)
    draining = asyncio.Event()
    continuity = Continuity(redis, settings.partitions)
    store, hot = FileStore(settings.files_location), HotState(redis, settings.partitions)
    files = FileSweep(store, hot, Archive(engine), orphan_age=ORPHAN_AGE)
    letters = DeadLetters(redis)
    archive = ArchiveRound(Store(engine), redis, retention, draining, archived=files.note)
    project = ProjectEvents(archive, letters, continuity)
    keeping = Keeping(settings.archive_period_days, settings.archive_days)
    lease = Lease(settings.consumer_name, settings.lease_seconds, settings.heartbeat_seconds)
    consumer = Consumer(broker, redis, project, partitions=settings.partitions, lease=lease)
    return Persister(
        redis=redis,
        engine=engine,
        partitions=settings.partitions,
        consumer=consumer,
        archive=archive,
        retention=retention,
        watchers={
            "restore": Restore(engine, redis, settings.partitions, retention),
            "files": files,
            "archive": KeepArchive(engine, settings.partitions, keeping),
        },
        draining=draining,
    )
