"""Puts back into Redis what the archive knows and Redis has lost, and then lets writers in again.

    closed partitions ─▶ one persister (advisory lock) ─▶ note its life: no batch of an earlier one
                                                            │   is archived any more (``store``)
                                                            ▼
                                                          nothing behind a hole (``torn_threads``)
                                                            ▼
                                                          one snapshot of the archive
                                                            │ threads with events of the lost time
                                                            │ threads of jobs without an end
                                                            ▼
                         open ◀── nothing is missing ◀── restore_thread, thread by thread

What was lost is the end of one server's history. So it is younger than the newest log entry that is
left of any partition there, SLACK_SECONDS for clocks that jump: only threads with such events are
looked at. A server that has forgotten everything holds no threads; those without an unfinished job
stay in the archive until somebody needs them.

The same is done, for single jobs, while all is open: one that the archive knows without an end and
that Redis does not know at all, or whose command is gone, gets its command again.

Failures
    Postgres away        Partitions stay closed: nobody knows what must not be given out again.
    Redis goes again     LogUnavailable; the next look begins anew. All of it may be repeated.
    Redis loses again    Nothing more is put back: what was decided, such as that Redis fills a
                         hole, is of a life that is over, and ``restore_thread`` refuses.
    A hole in the archive  Where an event was given up on. What stands behind it is not put back.
    A Redis that is older than what is kept (``expiry``): nobody can tell what it lacks. Partitions
                         stay closed until it is emptied: all is loaded when somebody needs it.
    This process dies    Postgres gives the lock to the next that asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from sqlalchemy import text
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.persister import archived_threads, torn_threads
from services.persister.patience import happens
from services.persister.statements import RESTORED
from shared.continuity import NO_ID, Continuity, LogId
from shared.deployment import prepare
from shared.errors import ArchiveUnavailable, LogUnavailable
from shared.ids import partition_of_thread
from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.observability import get_logger
from shared.redis_client import Redis, server_of, translate
from shared.redis_scripts import Call, Script, run
from shared.retention import Retention

LOOK_SECONDS: Final = 0.25
LOOKS_PER_RECONCILIATION: Final = 60
SLACK_SECONDS: Final = 10
LOCK_KEY: Final = 0x726573746F7265  # "restore"
KNOWS_ANYTHING = text("SELECT EXISTS (SELECT FROM events)")  # it is not a new deployment
TRY_LOCK = text(f"SELECT pg_try_advisory_xact_lock({LOCK_KEY})")

log = get_logger()


class Restore:
    """One per persister; any number may run, and one of them does the work."""

    def __init__(
        self, engine: AsyncEngine, redis: Redis, partitions: int, retention: Retention
    ) -> None:
        self._engine, self._redis, self._partitions = engine, redis, partitions
        self._retention = retention
        self._continuity = Continuity(redis, partitions)
        self._script = Script("restore_thread")

    async def watch(self, draining: asyncio.Event) -> None:
        """Look again and again, until the process drains."""
        looks = 0
        while not draining.is_set():
            looks += 1
            try:
                await self.closed_partitions()
                if looks % LOOKS_PER_RECONCILIATION == 0:
                    await self.forgotten_jobs()
            except (LogUnavailable, ArchiveUnavailable) as error:
                log.warning("not restored", reason=str(error))
            await happens(draining, within=LOOK_SECONDS)

    async def closed_partitions(self) -> None:
        """Restore and open the partitions that are closed, if nobody else is at it."""
        closed = await self._continuity.closed()
        if not closed:
            return
        await prepare(self._redis, self._partitions)
        async with self._alone() as archive:
            if archive is None:
                return
            life = await self._continuity.begin_life(closed)
            await archive.execute(RESTORED, {"partitions": closed, "life": life})
        async with self._alone() as archive:
            if archive is None:
                return
            await self._cut_torn(archive, closed)
        async with self._alone("REPEATABLE READ") as archive:
            if archive is None:
                return
            found = await self._threads_of(archive, set(closed))
            restored = [await self._thread(archive, thread_id, life) for thread_id in found]
            recall = bool(await archive.scalar(KNOWS_ANYTHING))
            opened = await self._continuity.open(closed, life, recall=recall)
        events, jobs = (sum(counts) for counts in zip((0, 0), *restored, strict=True))
        log.warning(
            "partitions restored", partitions=closed, opened=opened, threads=len(found),
            events=events, jobs=jobs,
        )  # fmt: skip

    async def _cut_torn(self, archive: AsyncConnection, closed: Collection[int]) -> None:
        torn = self._within(await torn_threads.torn(archive), closed)
        known = {thread_id: await self._position(thread_id) or 0 for thread_id in torn}
        if events := await torn_threads.cut(archive, known):
            log.warning("cut off behind a hole", threads=torn, events=events)

    async def forgotten_jobs(self) -> None:
        """Give a command to every job without an end that Redis has none for."""
        async with self._alone("REPEATABLE READ") as archive:
            if archive is None:
                return
            after, suspects = "", set[str]()
            while page := await archived_threads.unfinished_jobs(archive, after):
                suspects |= {page[job_id] for job_id in await self._lost_of(list(page))}
                after = max(page)
        if not suspects:
            return
        # Later than the look into Redis: see ``_lost_of``.
        async with self._alone("REPEATABLE READ") as archive:
            for thread_id in suspects if archive is not None else ():
                partition = partition_of_thread(thread_id, self._partitions)
                life = await self._continuity.life(partition)
                _, jobs = await self._thread(cast("AsyncConnection", archive), thread_id, life)
                log.warning("jobs taken up again", thread_id=thread_id, jobs=jobs)

    async def _lost_of(self, job_ids: list[str]) -> list[str]:
        """Those whose hash, or whose command, is not in Redis.

        A hash may also be missing because the job has ended and was let go: that is archived, so a
        later look into the archive tells.
        """
        known = await self._pipelined(
            ("HMGET", _keys(job_id).job(job_id), "status", "entry") for job_id in job_ids
        )
        entries = {
            job_id: entry
            for job_id, (status, entry) in zip(job_ids, known, strict=True)
            if status in (b"queued", b"running") and entry
        }
        commands = await self._pipelined(
            ("XRANGE", _keys(job_id).commands, entry, entry) for job_id, entry in entries.items()
        )
        gone = {job for job, found in zip(entries, commands, strict=True) if not found}
        unknown = {job for job, fields in zip(job_ids, known, strict=True) if fields[0] is None}
        return sorted(gone | unknown)

    async def _pipelined(self, commands: Any) -> list[Any]:
        with translate():
            pipeline = cast("Any", self._redis).pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute()

    async def _threads_of(self, archive: AsyncConnection, closed: Collection[int]) -> list[str]:
        """The threads of closed partitions that must be looked at."""
        found = set[str]()
        ends = await self._ends(closed)
        if ends:
            since_ms = min(ends)[0] - SLACK_SECONDS * 1000
            found.update(await archived_threads.threads_since(archive, since_ms))
        after = ""
        while page := await archived_threads.unfinished_jobs(archive, after):
            found.update(page.values())
            after = max(page)
        return self._within(found, closed)

    async def _ends(self, closed: Collection[int]) -> list[LogId]:
        """What each server knows last, of those with closed partitions that know anything."""
        ends: dict[Redis, LogId] = {}
        for partition in closed:
            server = await server_of(self._redis, PartitionKeys(partition).log)
            end = await self._continuity.last_log_id(partition)
            ends[server] = max(end, ends.get(server, NO_ID))
        return [end for end in ends.values() if end != NO_ID]

    def _within(self, thread_ids: Iterable[str], partitions: Collection[int]) -> list[str]:
        threads = ((partition_of_thread(each, self._partitions), each) for each in thread_ids)
        return sorted(thread_id for partition, thread_id in threads if partition in partitions)

    async def _thread(self, archive: AsyncConnection, thread_id: str, life: str) -> tuple[int, int]:
        """How many events and jobs were put back. Raises LogUnavailable when that life is over."""
        keys = PartitionKeys(partition_of_thread(thread_id, self._partitions))
        thread = await archived_threads.archived_thread(archive, thread_id)
        if thread is None:
            return 0, 0
        known = await self._position(thread_id)
        await self._require_kept(archive, thread_id, known)
        position = thread.position if known is None else known
        streams, restored = set[str](), (0, 0)
        while True:
            behind = await archived_threads.events_behind(archive, thread_id, position)
            position += len(behind.rows)
            streams.update(row.stream_id for row in behind.rows)
            jobs: list[dict[str, Any]] = []
            if not behind.more:
                jobs = await archived_threads.jobs_up_to(
                    archive, thread_id, position, job_ids=sorted(streams)
                )
            if known is None and not jobs:
                return 0, 0  # it is loaded when somebody needs it
            first = archived_threads.control(
                prefix=keys.prefix, group=ORCHESTRATORS, life=life, thread_id=thread_id,
                fields=thread.fields, jobs=jobs,
            )  # fmt: skip
            names = [keys.thread(thread_id), keys.thread_events(thread_id)]
            names += [keys.thread_queue(thread_id), keys.log, keys.commands]
            call = Call(self._script, names, [first, *behind.arguments])
            reply = await run(self._redis, call)
            if reply[0] == b"OVER":
                raise LogUnavailable("Redis has lost more since")
            events, jobs_restored = reply
            restored = restored[0] + events, restored[1] + jobs_restored
            if not behind.more:
                break
        if thread.is_whole:  # no persister will report it: what was put back is not in the log
            over = [job["job_id"] for job in jobs if "done" in job]
            whole = {thread_id: thread.position}
            await self._retention.report(keys.partition, "archived", whole, finished_jobs=over)
        return restored

    async def _require_kept(
        self, archive: AsyncConnection, thread_id: str, known: int | None
    ) -> None:
        """Raises LogUnavailable when what Redis lacks behind a position is kept no longer."""
        upto = await archived_threads.settled_up_to(archive, thread_id)
        if known is not None and known < upto:
            raise LogUnavailable(f"Redis is older than what is kept of {thread_id}: empty it")

    async def _position(self, thread_id: str) -> int | None:
        """As Redis knows it."""
        keys = PartitionKeys(partition_of_thread(thread_id, self._partitions))
        with translate():
            known = await cast("Any", self._redis).hget(keys.thread(thread_id), "position")
        return None if known is None else int(known)

    @asynccontextmanager
    async def _alone(
        self, isolation: IsolationLevel = "READ COMMITTED"
    ) -> AsyncGenerator[AsyncConnection | None]:
        """A transaction under the lock; None when another persister has that."""
        try:
            async with self._engine.connect() as connection:
                await connection.execution_options(isolation_level=isolation)
                async with connection.begin():
                    has_lock = await connection.scalar(TRY_LOCK)
                    yield connection if has_lock else None
        except (DBAPIError, PoolTimeoutError) as error:
            raise ArchiveUnavailable(f"Postgres is unavailable: {type(error).__name__}") from error


def _keys(job_id: str) -> PartitionKeys:
    return PartitionKeys(int(job_id[4:6], 16))
