"""A gateway as a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from infra.local.machine import free_port
from shared.settings import Settings
from tests.integration.api.gateways import SECRET

SERVICE = ("-m", "services.api")
START_SECONDS_MAX = 20.0


@asynccontextmanager
async def process_of(
    settings: Settings, folder: Path, *, program: Sequence[str] = SERVICE, **more: str
) -> AsyncGenerator[tuple[asyncio.subprocess.Process, int]]:
    """`python -m services.api` and the port it is to listen on; ended with the block."""
    port = free_port()
    env = {
        **os.environ,
        "HEADWATER_REDIS_URL": settings.required("redis_url"),
        "HEADWATER_DATABASE_URL": settings.required("database_url"),
        "HEADWATER_AUTH_SECRET": SECRET,
        "HEADWATER_PARTITIONS": str(settings.partitions),
        "HEADWATER_PORT": str(port),
        "HEADWATER_READY_FILE": str(folder / "ready"),
        **more,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, env=env, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process, port
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready(process: asyncio.subprocess.Process, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not (folder / "ready").exists():
        assert process.returncode is None
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
