"""The console as a person runs it."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass

RUN_SECONDS_MAX = 30.0


@dataclass
class Ran:
    """How the program ended, and what it said."""

    code: int
    output: str
    errors: str


class Program:
    """`python -m infra.console …` with the settings of a cluster, its output in a pipe."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = {**os.environ, **env}
        self.started: list[asyncio.subprocess.Process] = []

    async def begin(self, *arguments: str, port: int = 9) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.console", *arguments),
            env={**self.env, "HEADWATER_PORT": str(port)},
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
