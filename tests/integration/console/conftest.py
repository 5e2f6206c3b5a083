"""The console as a person runs it, and a job for it to find."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest

from shared.redis_client import Redis
from tests.integration.persister.writer import PARTITIONS, Writer

RUN_SECONDS_MAX = 30.0
SECRET = "a secret that is long enough for HS256"


@dataclass
class Ran:
    """How the program ended, and what it said."""

    code: int
    output: str
    errors: str


class Program:
    """`python -m infra.console …` with the settings of a cluster, its output in a pipe."""

    def __init__(self, env: dict[str, str]) -> None:
        self._env = {**os.environ, **env}
        self.started: list[asyncio.subprocess.Process] = []

    async def begin(self, *arguments: str, port: int = 9) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.console", *arguments),
            env={**self._env, "HEADWATER_PORT": str(port)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.started.append(process)
        return process

    async def run(self, *arguments: str, port: int = 9) -> Ran:
        process = await self.begin(*arguments, port=port)
        async with asyncio.timeout(RUN_SECONDS_MAX):
            output, errors = await process.communicate()
        assert process.returncode is not None
        return Ran(process.returncode, output.decode(), errors.decode())

    async def end(self) -> None:
        for process in self.started:
            if process.returncode is None:
                process.kill()
                await process.communicate()


@pytest.fixture
async def program(redis_url: str, database_url: str) -> AsyncGenerator[Program]:
    program = Program(
        {
            "HEADWATER_REDIS_URL": redis_url,
            "HEADWATER_DATABASE_URL": database_url,
            "HEADWATER_AUTH_SECRET": SECRET,
            "HEADWATER_PARTITIONS": str(PARTITIONS),
        }
    )
    yield program
    await program.end()


@pytest.fixture
async def writer(redis: Redis) -> Writer:
    writer = Writer(redis)
    await writer.prepare()
    return writer


@pytest.fixture
async def job_id(writer: Writer) -> str:
    """A job that waits in Redis."""
    return (await writer.ask()).job_id
