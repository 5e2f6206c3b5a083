"""Redis loses its last moments, as by a power cut or when a stale replica takes over.

    append-only file  ──────────────────────┬───────────┐
                                            │  lost     │ ◀── killed here
                      kept: whole scripts ──┘

Every script that writes is one transaction in the file, so it is cut behind one.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from infra.local.cluster import LocalCluster
from tests.faults.arena import Row
from tests.faults.oracle import FINAL

LOOK_SECONDS = 0.02
SETTLED_SECONDS = 0.3  # a persister commits what it has in hand
END_OF_SCRIPT = b"\r\n$4\r\nEXEC\r\n"
FORGET_ALL = re.compile(rb"\r\nflush(all|db)\r\n", re.IGNORECASE)
JOB = re.compile(rb"job_[0-9a-z]+")
# What is archived behind a hole is lost too: nobody may ever be able to fill it.
KNOWN = """
WITH placed AS (
  SELECT thread_id, events.position,
         row_number() OVER (PARTITION BY thread_id ORDER BY events.position) AS place
  FROM events JOIN threads USING (thread_id) WHERE owner = ANY(%(users)s)
), whole AS (
  SELECT thread_id, count(*) AS until FROM placed WHERE placed.position = place GROUP BY thread_id
)
SELECT job_id, CASE WHEN done.position <= until THEN jobs.status ELSE 'running' END
FROM jobs JOIN whole USING (thread_id)
LEFT JOIN events AS done ON done.stream_id = job_id AND done.type = 'done'
WHERE first_position <= until
"""


@dataclass
class Loss:
    """What a cut has cost, once it is done. `forgotten`: accepted, and known to nobody."""

    bytes: int = 0
    forgotten: frozenset[str] = frozenset()


@asynccontextmanager
async def lost_tail(row: Row, *, seconds: float = 1.0) -> AsyncGenerator[Loss]:
    """At the end of the block Redis is killed, loses what it wrote in its last `seconds`, which are
    at most those of the block, and is up again."""
    loss, sizes = Loss(), deque[tuple[float, int]]()
    watch = asyncio.create_task(_watch(append_only_file(row.cluster), sizes))
    try:
        yield loss
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
    async with row.faults.down("valkey"):
        kept = max(
            (size for moment, size in sizes if moment <= sizes[-1][0] - seconds),
            default=sizes[0][1],
        )
        await asyncio.sleep(SETTLED_SECONDS)
        held = await asyncio.to_thread(_cut, append_only_file(row.cluster), kept, loss)
        _tell(row, loss, await asyncio.to_thread(archived, row.cluster, row.users.users), held)


@asynccontextmanager
async def forgetting(row: Row) -> AsyncGenerator[None]:
    """In the block Redis loses all it holds."""
    async with row.faults.lasting("forget everything"):
        yield
        await asyncio.sleep(SETTLED_SECONDS)
    _tell(row, Loss(), await asyncio.to_thread(archived, row.cluster, row.users.users), b"")


def _tell(row: Row, loss: Loss, known: dict[str, str], held: bytes) -> None:
    """Say what the loss has cost; who has no end yet, or one that nobody knows, begins again."""
    ids = known.keys() | {name.decode() for name in JOB.findall(held)}
    loss.forgotten = frozenset(job.job_id for job in row.users.jobs) - ids
    facts = {"forgotten": sorted(loss.forgotten), "known": sorted(ids)}
    row.history.add("loss", bytes=loss.bytes, **facts)
    row.users.doubt()
    for viewer in row.users.viewers:
        if viewer.is_done and not _has_end(viewer.job.job_id, known, held):
            row.users.begin_again(viewer)


def append_only_file(cluster: LocalCluster) -> Path:
    """The file that Redis adds to now."""
    folder = cluster.plan.data_dir / "redis" / "appendonlydir"
    return max(folder.glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)


async def _watch(path: Path, sizes: deque[tuple[float, int]]) -> None:
    while True:
        sizes.append((time.monotonic(), path.stat().st_size))  # noqa: ASYNC240 -- a look at a number
        await asyncio.sleep(LOOK_SECONDS)


def _cut(path: Path, size: int, loss: Loss) -> bytes:
    """Shorten the file to whole scripts within `size` bytes; what it still says of what is held."""
    content = path.read_bytes()
    end = content.rfind(END_OF_SCRIPT, 0, size)
    kept = content[: end + len(END_OF_SCRIPT)] if end >= 0 else content[:size]
    with path.open("r+b") as file:
        file.truncate(len(kept))
    loss.bytes = len(content) - len(kept)
    return kept[max((found.end() for found in FORGET_ALL.finditer(kept)), default=0) :]


def archived(cluster: LocalCluster, users: set[str]) -> dict[str, str]:
    """The status of each job of these users that the archive knows, as far as it is whole."""
    with psycopg.connect(cluster.database_url, autocommit=True) as postgres:
        return dict(postgres.execute(KNOWN, {"users": sorted(users)}).fetchall())


def _has_end(job_id: str, known: dict[str, str], held: bytes) -> bool:
    done = f'"type":"done","job_id":"{job_id}"'.encode()
    return known.get(job_id) in FINAL or done in held
