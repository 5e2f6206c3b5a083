"""The orchestrator put together: adapters in, a service out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from faststream.redis import RedisBroker

from services.orchestrator.admission import Slots
from services.orchestrator.appender import Appender
from services.orchestrator.cancels import listen_for_cancels
from services.orchestrator.consumer import Consumer
from services.orchestrator.graph.graph import build_graph
from services.orchestrator.heartbeat import Heartbeat
from services.orchestrator.history import ThreadHistory
from services.orchestrator.model import Model
from services.orchestrator.run_job import JobLimits, JobPorts, Jobs
from shared.agents import Agent
from shared.archive import Archive
from shared.cancellation import end_tasks
from shared.deployment import prepare
from shared.errors import LogUnavailable
from shared.event_log import EventLog
from shared.hot_state import HotState
from shared.observability import get_logger
from shared.redis_client import Redis, translate
from shared.settings import Settings

HAND_OVER_SECONDS_MAX: Final = 3.0
STOP_SECONDS_MAX: Final = 2.0
WATCH_SECONDS: Final = 0.25

log = get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What an orchestrator consists of."""

    redis: Redis
    partitions: int
    appender: Appender
    heartbeat: Heartbeat
    jobs: Jobs
    consumer: Consumer


class Orchestrator:
    """A ``lifecycle.Service``. Draining hands every running job over with what it has said."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        parts = self._parts
        await prepare(parts.redis, parts.partitions)
        parts.heartbeat.start()
        cancels = listen_for_cancels(parts.redis, parts.partitions, parts.jobs.cancel)
        self._background = [
            asyncio.create_task(parts.appender.run(), name="appender"),
            asyncio.create_task(cancels, name="cancels"),
        ]
        await parts.consumer.start()

    async def is_ready(self) -> bool:
        if not self._background or self._broken():
            return False
        try:
            with translate():
                await cast("Any", self._parts.redis).echo("ready")
        except LogUnavailable:
            return False
        return True

    async def failed(self) -> str:
        while not self._broken():  # noqa: ASYNC110 -- FastStream has no event to wait for
            await asyncio.sleep(WATCH_SECONDS)
        return self._broken()

    def _broken(self) -> str:
        """What has stopped by itself and will not come back, or ''."""
        for task in self._background:
            if task.done():
                return f"{task.get_name()} has ended: {task.exception()!r}"
        if not self._parts.heartbeat.is_alive:
            return "the heartbeat has stopped"
        return "" if self._parts.consumer.is_running else "a subscriber has stopped"

    async def drain(self) -> None:
        """Read no more, hand the running jobs over, and give back what has not been begun."""
        parts = self._parts
        log.info("handing over", jobs=len(parts.consumer.tasks))
        parts.jobs.hand_over()
        with suppress(LogUnavailable):
            await parts.consumer.stop_reading()
            if parts.consumer.tasks:
                await asyncio.wait(parts.consumer.tasks, timeout=HAND_OVER_SECONDS_MAX)
            await end_tasks(parts.consumer.tasks, seconds_max=STOP_SECONDS_MAX)
            await parts.consumer.give_back()

    async def stop(self) -> None:
        with suppress(LogUnavailable):
            await self._parts.consumer.stop_reading()
        tasks = [*self._parts.consumer.tasks, *self._background]
        await end_tasks(tasks, seconds_max=STOP_SECONDS_MAX)
        await self._parts.heartbeat.stop()


def assemble(
    settings: Settings,
    *,
    redis: Redis,
    broker: RedisBroker,
    archive: Archive,
    model: Model,
    agents: Mapping[str, Agent],
) -> Orchestrator:
    """The service, on its adapters, which stay the caller's to close."""
    event_log = EventLog(redis, settings.partitions)
    hot = HotState(redis, settings.partitions)
    appender = Appender(event_log)
    heartbeat = Heartbeat(
        settings.required("redis_url"),
        event_log,
        consumer=settings.consumer_name,
        every_seconds=settings.heartbeat_seconds,
        lease_seconds=settings.lease_seconds,
    )
    ports = JobPorts(
        event_log=event_log,
        hot=hot,
        history=ThreadHistory(hot, archive),
        appender=appender,
        heartbeat=heartbeat,
        graph=build_graph(),
        model=model,
        agents=agents,
    )
    jobs = Jobs(ports, _limits(settings), consumer=settings.consumer_name)
    consumer = Consumer(
        broker,
        redis,
        jobs,
        name=settings.consumer_name,
        partitions=settings.partitions,
        slots=Slots(settings.jobs_per_worker),
        lease_seconds=settings.lease_seconds,
    )
    return Orchestrator(
        Parts(
            redis=redis,
            partitions=settings.partitions,
            appender=appender,
            heartbeat=heartbeat,
            jobs=jobs,
            consumer=consumer,
        )
    )


def _limits(settings: Settings) -> JobLimits:
    return JobLimits(
        attempts_max=settings.attempts_max,
        job_deadline_seconds=settings.job_deadline_seconds,
        context_tokens=settings.llm_context_tokens,
        default_model=settings.llm_model,
    )
