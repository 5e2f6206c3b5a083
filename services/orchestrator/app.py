"""The orchestrator put together: adapters in, a service out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from services.orchestrator.admission import Slots
from services.orchestrator.appender import Appender
from services.orchestrator.cancels import listen_for_cancels
from services.orchestrator.consumer import Consumer
from services.orchestrator.graph.graph import build_graph
from services.orchestrator.heartbeat import Heartbeat
from services.orchestrator.history import ThreadHistory
from services.orchestrator.model import Model
from services.orchestrator.run_job import Jobs, Limits, Stop
from shared.agents import Agent
from shared.archive import Archive
from shared.dead_letters import DeadLetters
from shared.deployment import prepare
from shared.errors import LogUnavailable
from shared.event_log import EventLog
from shared.hot_state import HotState
from shared.observability import get_logger
from shared.redis_client import Redis, translate
from shared.settings import Settings

HAND_OVER_SECONDS_MAX: Final = 3.0

log = get_logger()


class Orchestrator:
    """A ``lifecycle.Service``. Draining hands every running job over with what it has said."""

    def __init__(
        self,
        *,
        redis: Redis,
        partitions: int,
        consumer: Consumer,
        jobs: Jobs,
        appender: Appender,
        heartbeat: Heartbeat,
    ) -> None:
        self._redis, self._partitions = redis, partitions
        self._consumer, self._jobs = consumer, jobs
        self._appender, self._heartbeat = appender, heartbeat
        self._background: list[asyncio.Task[None]] = []
        self._started = False

    async def start(self) -> None:
        await prepare(self._redis, self._partitions)
        self._heartbeat.start()
        cancels = listen_for_cancels(
            self._redis, self._partitions, lambda job_id: self._jobs.stop(job_id, Stop.CANCEL)
        )
        self._background = [
            asyncio.create_task(self._appender.run(), name="appender"),
            asyncio.create_task(cancels, name="cancels"),
        ]
        await self._consumer.start()
        self._started = True

    async def is_ready(self) -> bool:
        if not self._started or not self._consumer.is_running or not self._heartbeat.is_alive:
            return False
        try:
            with translate():
                await self._redis.echo("ready")
        except LogUnavailable:
            return False
        return True

    async def failed(self) -> str:
        watched = [asyncio.create_task(self._consumer.failed()), *self._background]
        done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        task = done.pop()
        error = task.exception()
        return f"{task.get_name()}: {error!r}" if error else str(task.result())

    async def drain(self) -> None:
        """Read no more, and hand the running jobs over."""
        await self._consumer.stop_reading()
        self._jobs.stop_all(Stop.SHUTDOWN)
        if self._consumer.tasks:
            log.info("handing over", jobs=len(self._consumer.tasks))
            await asyncio.wait(self._consumer.tasks, timeout=HAND_OVER_SECONDS_MAX)

    async def stop(self) -> None:
        tasks = [*self._consumer.tasks, *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(LogUnavailable), translate():
            await self._consumer.stop_reading()
        await self._heartbeat.stop()


def assemble(
    settings: Settings,
    *,
    redis: Redis,
    archive: Archive,
    model: Model,
    agents: Mapping[str, Agent],
) -> Orchestrator:
    """The service, from its adapters. The caller closes what it has handed in."""
    event_log = EventLog(redis, settings.partitions)
    hot = HotState(redis, settings.partitions)
    redis_url = settings.required("redis_url")
    appender = Appender(event_log)
    heartbeat = Heartbeat(
        redis_url,
        event_log,
        consumer=settings.consumer_name,
        every_seconds=settings.heartbeat_seconds,
        lease_seconds=settings.lease_seconds,
    )
    jobs = Jobs(
        event_log=event_log,
        hot=hot,
        history=ThreadHistory(hot, archive),
        appender=appender,
        heartbeat=heartbeat,
        model=model,
        graph=build_graph(),
        agents=agents,
        limits=Limits(
            attempts_max=settings.attempts_max,
            job_deadline_seconds=settings.job_deadline_seconds,
            context_tokens=settings.llm_context_tokens,
            default_model=settings.llm_model,
        ),
        consumer=settings.consumer_name,
    )
    consumer = Consumer(
        redis_url,
        partitions=settings.partitions,
        consumer=settings.consumer_name,
        lease_seconds=settings.lease_seconds,
        slots=Slots(settings.jobs_per_worker),
        jobs=jobs,
        dead_letters=DeadLetters(redis),
    )
    return Orchestrator(
        redis=redis,
        partitions=settings.partitions,
        consumer=consumer,
        jobs=jobs,
        appender=appender,
        heartbeat=heartbeat,
    )
