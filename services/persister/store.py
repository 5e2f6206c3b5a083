"""A round of batches into Postgres: one transaction, all or nothing, harmless when repeated.

    archive ──▶ new rows per stream ──▶ threads, messages, jobs, … ──▶ checkpoints ──▶ commit
      │ ON CONFLICT DO NOTHING              │ merged, never overwritten

Failures
    RefusedEvent        Postgres will never take one of the entries: find it (``project_events``).
                        Or the archive has another event in its place, as happens when Redis has
                        lost events that were archived, and gives their numbers out again.
    StaleBatch          It was read in an earlier life of Redis, which may have forgotten it.
    ArchiveUnavailable  Everything else, from a lost connection to a full disk: nothing is stored
                        (or the reply to the commit was lost, which repeating shows); wait.
    Meeting another persister's transaction badly is tried again here, CONFLICT_TRIES_MAX times.
    A persister that stops in the middle of a transaction, because it is paused or its machine is
    gone, holds rows that others need: Postgres ends an idle transaction (``shared.postgres``).
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from pydantic_core import to_json
from sqlalchemy import Row, Table, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.persister.batch import Batch, RefusedEvent, Share, columns_of
from services.persister.statements import ARCHIVE, CHECKPOINT, DISPLACED, upsert
from shared import projection
from shared.errors import ArchiveUnavailable, HeadwaterError
from shared.projection import Progress, Projection
from shared.read_model import (
    file_passages,
    files,
    jobs,
    messages,
    participants,
    summaries,
    threads,
)
from shared.states import FINAL_STATUSES

TRANSACTION_SECONDS_MAX: Final = 20.0
PING_SECONDS_MAX: Final = 2.0
CONFLICT_TRIES_MAX: Final = 5
CONFLICTS: Final = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
REFUSING_DATA: Final = (
    psycopg.DataError,  # also the driver's own, for a text with a NUL
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,  # a key too long for an index
    psycopg.errors.StatementTooComplex,  # JSON nested too deep
)
UPSERTS: Final[dict[Table, TextClause]] = {  # in the order every transaction takes their locks
    threads: upsert(threads, returning=["thread_id", "position", "event_count"]),
    messages: upsert(messages, returning=["message_id"]),
    jobs: upsert(jobs, returning=["job_id", "thread_id", "status", "last_seq", "event_count"]),
    participants: upsert(participants, returning=["participant_id"]),
    summaries: upsert(summaries, returning=["thread_id"]),
    files: upsert(files, returning=["file_id"]),
    file_passages: upsert(file_passages, returning=["passage_id"]),
}


@dataclass(frozen=True, slots=True)
class Archived:
    """What a batch leaves behind: what is in the archive now, with nothing missing in front."""

    added: int
    threads: Mapping[str, int]  # whole up to this position
    finished_jobs: Sequence[str]  # whole to their last event


class StaleBatch(HeadwaterError):
    """The partition has been restored since the batch was read, or the batch is of a closed one."""


class Store:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def commit(self, partition: int, batch: Batch, life: str) -> Archived:
        """Archive and project a batch that was read in that life of Redis. As a round of its own.

        Raises RefusedEvent, StaleBatch, ArchiveUnavailable.
        """
        [archived] = await self.commit_round([Share(partition, batch, life)])
        return archived

    async def commit_round(self, shares: Sequence[Share]) -> list[Archived]:
        """Archive and project batches of several partitions, in order of the partitions.

        Raises the same. A reason that is of one batch keeps all from being committed.
        """
        for _ in range(CONFLICT_TRIES_MAX):
            try:
                return await self._commit(shares)
            except _Conflict:
                continue
        raise ArchiveUnavailable(f"Postgres: {CONFLICT_TRIES_MAX} conflicts in a row")

    async def ping(self) -> None:
        """Raises ArchiveUnavailable unless Postgres answers, and would take a commit."""
        with _translated():
            async with asyncio.timeout(PING_SECONDS_MAX), self._engine.connect() as connection:
                read_only = await connection.scalar(text("SHOW transaction_read_only"))
        if read_only == "on":
            raise ArchiveUnavailable("Postgres is unavailable: it is read-only")

    async def _commit(self, shares: Sequence[Share]) -> list[Archived]:
        columns = columns_of([share.batch for share in shares])
        read_model = Projection()
        for share in shares:
            read_model.include(share.batch.read_model)
        with _translated():
            async with asyncio.timeout(TRANSACTION_SECONDS_MAX), self._engine.begin() as connection:
                streams = await _archive(connection, columns)
                added = _added(shares, streams)
                missing = sum(share.batch.count for share in shares) - sum(added)
                if missing and await connection.scalar(DISPLACED, columns):
                    raise RefusedEvent("another event has its place in the archive")
                merged = await apply(connection, read_model, streams)
                await _checkpoint(connection, shares, added)
        whole, finished = _whole_threads(merged[threads]), _finished_jobs(merged[jobs])
        return [
            Archived(
                count,
                {name: whole[name] for name in share.batch.threads if name in whole},
                [job for name in share.batch.threads for job in finished.get(name, ())],
            )
            for share, count in zip(shares, added, strict=True)
        ]


async def apply(
    connection: AsyncConnection, read_model: Projection, streams: Iterable[Progress]
) -> dict[Table, Sequence[Row[Any]]]:
    """Merge a projection, and the progress of the streams it rests on, into the tables.

    Gives the merged rows, with the columns that ``UPSERTS`` returns.
    """
    whole = Projection(read_model)
    for stream in streams:
        whole.advance(stream)
    merged: dict[Table, Sequence[Row[Any]]] = {}
    for table, statement in UPSERTS.items():
        rows = list(whole.rows[table].values())
        result = await connection.execute(statement, {"rows": _json(rows)}) if rows else None
        merged[table] = result.all() if result else []
    return merged


async def _archive(connection: AsyncConnection, columns: Mapping[str, str]) -> list[Progress]:
    result = await connection.execute(ARCHIVE, columns)
    return [Progress(*row) for row in result.all()]


def _added(shares: Sequence[Share], streams: Iterable[Progress]) -> list[int]:
    """How many events of each share are new."""
    of_thread = Counter[str]()
    for stream in streams:
        of_thread[stream.thread_id] += stream.added
    return [sum(of_thread.pop(name, 0) for name in share.batch.threads) for share in shares]


async def _checkpoint(
    connection: AsyncConnection, shares: Sequence[Share], added: Sequence[int]
) -> None:
    rows = [
        {"partition": share.partition, "log_ms": log_ms, "log_n": log_n, "added": count}
        for share, count in zip(shares, added, strict=True)
        for log_ms, log_n in (share.batch.last,)
    ]
    lives = {share.partition: share.life for share in shares}
    said = {"rows": json.dumps(rows), "lives": json.dumps(lives)}
    if len((await connection.execute(CHECKPOINT, said)).all()) < len(shares):
        raise StaleBatch(f"read in an earlier life of Redis: {', '.join({*lives.values()})}")


def _whole_threads(rows: Sequence[Row[Any]]) -> dict[str, int]:
    return {row.thread_id: row.position for row in rows if row.event_count == row.position}


def _finished_jobs(rows: Sequence[Row[Any]]) -> dict[str, list[str]]:
    """Those that are archived whole, by thread."""
    finished: dict[str, list[str]] = {}
    for row in rows:
        if row.status in FINAL_STATUSES and row.event_count == row.last_seq:
            finished.setdefault(row.thread_id, []).append(row.job_id)
    return finished


def _json(rows: Sequence[projection.Row]) -> str:
    """A number that JSON does not have is written so that Postgres refuses it."""
    return to_json(rows, inf_nan_mode="constants").decode()


class _Conflict(Exception):
    """Two transactions met, and this one had to give way."""


def _found_no_part(error: BaseException | None) -> bool:
    """Whether the archive's parts have changed while it waited for one: no constraint is named."""
    is_check = isinstance(error, psycopg.errors.CheckViolation)
    return is_check and error.diag.constraint_name is None


@contextmanager
def _translated() -> Generator[None]:
    """Tell apart what is wrong with the moment, with the data, and with Postgres."""
    try:
        yield
    except DBAPIError as error:
        cause = error.orig
        if isinstance(cause, CONFLICTS) or _found_no_part(cause):
            raise _Conflict() from error
        name = f"{type(cause).__name__} {getattr(cause, 'sqlstate', None) or ''}".strip()
        if isinstance(cause, REFUSING_DATA):
            raise RefusedEvent(f"Postgres refuses it: {name}") from error
        raise ArchiveUnavailable(f"Postgres is unavailable: {name}") from error
    except (PoolTimeoutError, TimeoutError) as error:
        raise ArchiveUnavailable("Postgres is unavailable: no answer in time") from error
