"""`python -m services.persister.keep`: keep the archive in shape (see ``keep_archive``).

For deployments whose persisters may not change tables: run it daily, or with `--watch` beside them,
as the role that migrates and with the persisters' settings. It needs no Redis.

    once        does what is due. 0: it is done, or somebody else is at it; 1: it could not be done
    --watch     looks again and again until SIGTERM, ready while Postgres answers: a ``Service``

Failures, with `--watch`
    Postgres away                      Not ready; tried again. At the start: exit code 1.
    A role that may not change tables  Exit code 1: nobody would keep the archive.
    A long step while it is to end     Cut short after HEADWATER_DRAIN_SECONDS, and not done at all.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.keep_archive import KeepArchive, Keeping
from services.persister.schema import require_schema
from shared.cancellation import end_tasks
from shared.errors import HeadwaterError
from shared.lifecycle import STOP_SECONDS_MAX, run_service
from shared.observability import configure_logging
from shared.postgres import Database, create_engine
from shared.settings import Settings, load_settings


class Watch:
    """A ``lifecycle.Service``. Draining ends with the step in hand."""

    def __init__(self, engine: AsyncEngine, archive: KeepArchive) -> None:
        self._engine, self._archive = engine, archive
        self._draining = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await require_schema(self._engine)
        self._keeping = asyncio.create_task(self._archive.keep(self._draining), name="keep")

    async def is_ready(self) -> bool:
        try:
            await require_schema(self._engine)
        except HeadwaterError:
            return False
        return True

    async def failed(self) -> str:
        assert self._keeping is not None
        await asyncio.wait({self._keeping})
        return f"keep ended: {self._keeping.exception()!r}"

    async def drain(self) -> None:
        self._draining.set()
        if self._keeping is not None:
            await asyncio.wait({self._keeping})

    async def stop(self) -> None:
        self._draining.set()
        if self._keeping is not None:
            await end_tasks((self._keeping,), seconds_max=STOP_SECONDS_MAX)


async def run(settings: Settings, *, watch: bool) -> int:
    database = Database.at(settings.required("database_url"), settings)
    engine = create_engine(database, application="keep")
    keeping = Keeping(settings.archive_period_days, settings.archive_days)
    archive = KeepArchive(engine, settings.partitions, keeping)
    try:
        if watch:
            return await run_service(
                Watch(engine, archive),
                ready_file=settings.ready_file,
                drain_seconds=settings.drain_seconds,
            )
        await require_schema(engine)
        await archive.look(round(time.time() * 1000), asyncio.Event())
        return 0
    finally:
        await engine.dispose()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m services.persister.keep", description="Keep the archive in shape."
    )
    parser.add_argument("--watch", action="store_true", help="go on, until SIGTERM")
    asked = parser.parse_args()
    try:
        settings = load_settings()
        configure_logging(settings, service="keep")
        return asyncio.run(run(settings, watch=asked.watch))
    except HeadwaterError as error:
        sys.stderr.write(f"keep: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
