"""Redis has no room left: in memory, or on the disk."""

from __future__ import annotations

import resource
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from shared.redis_client import connect
from tests.faults.arena import Row
from tests.faults.lost_tail import append_only_file

DISK_LEFT_BYTES = 4096
TOO_LITTLE = "1mb"  # less than it uses


@asynccontextmanager
async def full_memory(row: Row) -> AsyncGenerator[None]:
    """It is beyond its `maxmemory` in the block."""
    async with connect(row.cluster.redis_url) as redis, row.faults.lasting("maxmemory"):
        await redis.config_set("maxmemory", TOO_LITTLE)
        try:
            yield
        finally:
            await redis.config_set("maxmemory", "0")


@asynccontextmanager
async def full_disk(row: Row, *, left_bytes: int = DISK_LEFT_BYTES) -> AsyncGenerator[None]:
    """Its append-only file cannot grow in the block, but for a little.

    Only for a server that ignores SIGXFSZ, as that of `networked` does. One that has rewritten its
    file since its start, and then writes half a command, will not start again once the disk has had
    room (seen with Valkey 9.1.2 and Redis 7.0.15: it goes on behind the half, and leaves NULs in
    its place). With nothing left nothing is written by half.
    """
    pid = row.cluster.pid("valkey")
    size = append_only_file(row.cluster).stat().st_size + left_bytes
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    async with row.faults.lasting("disk full"):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
