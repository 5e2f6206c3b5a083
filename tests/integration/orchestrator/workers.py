"""Orchestrators for tests: in the test's own loop, or as processes that can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from services.orchestrator.app import Orchestrator, assemble
from services.orchestrator.consumer import make_broker
from services.orchestrator.model import Model
from services.orchestrator.model_limits import ModelLimits
from services.orchestrator.openai_compatible import OpenAICompatibleModel, open_session
from shared.agents import Agent
from shared.archive import Archive
from shared.postgres import create_engine
from shared.redis_client import connect
from shared.settings import Settings
from tests.integration.orchestrator.waiting import until
from tests.support.proxy import Proxy

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"  # short threads need no archive
START_SECONDS_MAX = 20.0
EXIT_SECONDS_MAX = 10.0
DEFAULTS: dict[str, Any] = {
    "database_url": NO_DATABASE,
    "partitions": 8,
    "lease_seconds": 1.2,
    "heartbeat_seconds": 0.3,
    "consumer_name": "w1",
    "log_level": "WARNING",
}
LIMITS = ModelLimits(
    connect_seconds=1.0,
    first_token_seconds=1.0,
    between_tokens_seconds=0.5,
    backoff_seconds_first=0.05,
)


def patient(limits: ModelLimits) -> ModelLimits:
    """The same, but a silent model is waited for longer than any test takes."""
    return replace(limits, first_token_seconds=60, between_tokens_seconds=60)


def proxy_to(redis_url: str) -> Proxy:
    """A proxy in front of Redis, not yet listening."""
    url = urlsplit(redis_url)
    return Proxy(url.hostname or "", url.port or 0)


@dataclass(frozen=True)
class Bench:
    """Where workers are put to work: the stores, the model server, and who answers as whom."""

    redis_url: str
    model_url: str
    folder: Path
    agents: dict[str, Agent] = field(default_factory=dict)

    def settings(self, **changes: Any) -> Settings:
        stores = {"redis_url": self.redis_url, "llm_base_url": self.model_url}
        return Settings.model_validate({**DEFAULTS, **stores, **changes})

    def agent(self, name: str, model: str, **fields: Any) -> None:
        """Let an agent of this name ask this model, in workers started from now on."""
        self.agents[name] = Agent(name=name, model=model, **fields)

    @asynccontextmanager
    async def worker(
        self, *, model: Model | None = None, limits: ModelLimits = LIMITS, **changes: Any
    ) -> AsyncGenerator[Orchestrator]:
        """An orchestrator that runs in this loop."""
        async with self.assembled(model=model, limits=limits, **changes) as orchestrator:
            await orchestrator.start()
            yield orchestrator

    @asynccontextmanager
    async def assembled(
        self, *, model: Model | None = None, limits: ModelLimits = LIMITS, **changes: Any
    ) -> AsyncGenerator[Orchestrator]:
        settings = self.settings(**changes)
        redis = connect(settings.required("redis_url"))
        engine = create_engine(settings.required("database_url"), application="test")
        async with open_session(connections_max=settings.jobs_per_worker) as session:
            orchestrator = assemble(
                settings,
                redis=redis,
                broker=make_broker(settings.required("redis_url")),
                archive=Archive(engine),
                model=model
                or OpenAICompatibleModel(
                    session,
                    base_url=settings.required("llm_base_url"),
                    api_key=None,
                    limits=limits,
                ),
                agents=self.agents,
            )
            try:
                yield orchestrator
            finally:
                await orchestrator.stop()
                await engine.dispose()
                await redis.aclose()

    @asynccontextmanager
    async def process(self, **changes: Any) -> AsyncGenerator[WorkerProcess]:
        """An orchestrator process, ready to work; killed in the end if it still lives."""
        name = changes.setdefault("consumer_name", "w1")
        env = self._environment(changes)
        Path(env["HEADWATER_READY_FILE"]).unlink(missing_ok=True)  # noqa: ASYNC240 -- of one killed
        log = (self.folder / f"{name}.log").open("wb")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.orchestrator", env=env, stdout=log, stderr=log
        )
        worker = WorkerProcess(process, Path(env["HEADWATER_READY_FILE"]))
        try:
            await worker.ready()
            yield worker
        finally:
            await worker.end()
            log.close()

    def _environment(self, changes: Mapping[str, Any]) -> dict[str, str]:
        agents_file = self.folder / "agents.json"
        named = [agent.model_dump() for agent in self.agents.values()]
        agents_file.write_text(json.dumps({"agents": named}))
        ready_file = self.folder / f"{changes['consumer_name']}.ready"
        ready_file.unlink(missing_ok=True)  # of one that was killed
        settings = {
            **DEFAULTS,
            "redis_url": self.redis_url,
            "llm_base_url": self.model_url,
            "agents_file": agents_file,
            "ready_file": ready_file,
            **changes,
        }
        kept = {name: value for name, value in os.environ.items() if "HEADWATER" not in name}
        return kept | {f"HEADWATER_{name.upper()}": str(value) for name, value in settings.items()}


class WorkerProcess:
    """A running ``python -m services.orchestrator``."""

    def __init__(self, process: asyncio.subprocess.Process, ready_file: Path) -> None:
        self._process, self._ready_file = process, ready_file

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> None:
        async def is_ready() -> bool:
            assert self._process.returncode is None, "the worker has died"
            return self._ready_file.exists()

        await until(is_ready, seconds=START_SECONDS_MAX)

    async def looks_unready(self) -> bool:
        return not self._ready_file.exists()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def exit_code(self) -> int:
        async with asyncio.timeout(EXIT_SECONDS_MAX):
            return await self._process.wait()

    async def end(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
