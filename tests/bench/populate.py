"""`python -m tests.bench.populate --folder F --messages N`: an archive of N messages, or so.

A made-up log goes through the persister's own commit, batch by batch, into a PostgreSQL of its own
in the folder. May be stopped at any time, and goes on where the archive's checkpoints stand. The
index of what messages are found by is made when all are there: to keep it up while they come takes
longer than all the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.local.machine import free_port
from infra.local.postgres import postgres_part, postgres_url
from infra.local.supervisor import Supervisor
from services.persister.batch import Batch, read_batch
from services.persister.migrate import migrate
from services.persister.store import Store
from shared.errors import ArchiveUnavailable
from shared.postgres import create_engine
from shared.read_model import messages
from tests.bench.corpus import PARTITIONS, Corpus, number_after

LIFE = "populate"
AT_ONCE = 3  # partitions: one is written by Postgres while another is made
PROGRESS_SECONDS = 20.0
LATE_INDEX = "messages_by_term"
# Nothing here is worth a flush: what is lost is made again.
LOADING = ("synchronous_commit = off", "max_wal_size = '8GB'", "checkpoint_timeout = '30min'")
COMMIT_TRIES_MAX = 5


@contextmanager
def archive_in(folder: Path) -> Generator[str]:
    """A migrated database in the folder, which is made when it is missing: its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "password"
    if not secret.exists():
        secret.write_text(secrets.token_hex(8))
    port, password = free_port(), secret.read_text()
    part = postgres_part(folder / "postgres", port, password, log=folder / "postgres.log")
    with Supervisor([part]):
        url = postgres_url(port, password)
        migrate(url)
        yield url


def plan_of(folder: Path, corpus: Corpus | None = None) -> Corpus:
    """What the folder holds, or is going to hold: the first plan counts."""
    plan = folder / "corpus.json"
    if not plan.exists():
        assert corpus is not None, f"there is no archive in {folder}"
        plan.write_text(json.dumps({"seed": corpus.seed, "messages": corpus.messages}))
    return Corpus(**json.loads(plan.read_text()))


class Populating:
    def __init__(self, engine: AsyncEngine, corpus: Corpus, until: float) -> None:
        self._engine, self._corpus, self._until = engine, corpus, until
        self._store = Store(engine)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.messages = 0
        self._began = self._told = time.monotonic()

    async def run(self) -> None:
        await self._set(LOADING)
        query = text("SELECT partition, log_ms FROM checkpoints")
        async with self._engine.connect() as connection:
            done = {p: number_after(ms) for p, ms in (await connection.execute(query)).all()}
        rest = range(PARTITIONS)
        if min(done.get(p, 0) for p in rest) < self._corpus.batches:
            async with self._engine.begin() as connection:
                await connection.execute(text(f"DROP INDEX IF EXISTS {LATE_INDEX}"))
        await asyncio.gather(*(self._partition(p, done.get(p, 0)) for p in rest))
        if time.monotonic() < self._until:
            await self._finish()

    async def _finish(self) -> None:
        """The last index, and figures for the planner."""
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("SET maintenance_work_mem = '2GB'"))
            await connection.execute(text("SET statement_timeout = 0"))
            await connection.run_sync(_make_index)
            await connection.execute(text("VACUUM ANALYZE"))
        await self._set(f"{setting.partition(' ')[0]} = DEFAULT" for setting in LOADING)

    async def _set(self, settings: Iterable[str]) -> None:
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            for setting in settings:
                await connection.execute(text(f"ALTER SYSTEM SET {setting}"))
            await connection.execute(text("SELECT pg_reload_conf()"))

    async def _partition(self, partition: int, first: int) -> None:
        for number in range(first, self._corpus.batches):
            async with self._slots:
                if time.monotonic() > self._until:
                    return
                batch = read_batch(self._corpus.batch(partition, number))
                added = await self._commit(partition, batch)
                self.messages += added // 2  # four events are a question and an answer
                self._tell(partition, number)

    async def _commit(self, partition: int, batch: Batch) -> int:
        """How many events are new. A busy machine may take longer than a transaction may."""
        for _ in range(COMMIT_TRIES_MAX):
            try:
                return (await self._store.commit(partition, batch, LIFE)).added
            except ArchiveUnavailable as error:
                sys.stdout.write(f"partition {partition}: {error}: again\n")
        raise ArchiveUnavailable(f"{COMMIT_TRIES_MAX} commits in a row have failed")

    def _tell(self, partition: int, number: int) -> None:
        now = time.monotonic()
        if now - self._told > PROGRESS_SECONDS:
            self._told = now
            rate = self.messages / (now - self._began)
            place = f"partition {partition}: batch {number + 1} of {self._corpus.batches}"
            sys.stdout.write(f"{self.messages:>9} messages, {rate:.0f}/s, {place}\n")
            sys.stdout.flush()


def _make_index(connection: Connection) -> None:
    index = next(index for index in messages.indexes if index.name == LATE_INDEX)
    index.create(connection, checkfirst=True)


async def populate(url: str, corpus: Corpus, minutes: float) -> None:
    engine = create_engine(url, application="populate")
    try:
        populating = Populating(engine, corpus, time.monotonic() + minutes * 60)
        began = time.monotonic()
        await populating.run()
        took = time.monotonic() - began
        rate = populating.messages / took
        sys.stdout.write(f"{populating.messages} messages in {took:.0f} s: {rate:.0f}/s\n")
    finally:
        await engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    corpus = plan_of(asked.folder, Corpus(asked.seed, asked.messages))
    with archive_in(asked.folder) as url:
        asyncio.run(populate(url, corpus, asked.minutes))


if __name__ == "__main__":
    main()
