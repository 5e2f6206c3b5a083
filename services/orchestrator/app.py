"""The orchestrator put together: adapters in, a service out.

    drain:  │ read no more │ running jobs end by themselves … │ hand over │ end │
            ├───────────────────── drain_seconds ───────────────────────────────┤
                                                              ├─ 3 s at most ──┼ 2 s ┤

Failures
    A job that does not end   It is handed over with what it has said. The wait leaves time for
                              that, whatever its model does; a second signal ends it at once.
    The service has failed    Nobody may be able to finish: the hand-over begins at once.
    Redis away                Nothing can be given back: leases run out, and others take the jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from faststream.redis import RedisBroker

from services.orchestrator.admission import Slots
from services.orchestrator.answering import Answering
from services.orchestrator.appender import Appender
from services.orchestrator.attachments import AttachedTexts
from services.orchestrator.cancels import listen_for_cancels
from services.orchestrator.consumer import Consumer
from services.orchestrator.graph.graph import build_graph
from services.orchestrator.heartbeat import Heartbeat
from services.orchestrator.history import ThreadHistory
from services.orchestrator.model import Model
from services.orchestrator.off_loop import OffLoop
from services.orchestrator.run_job import JobLimits, JobPorts, Jobs
from services.orchestrator.second_offer import SecondOffer
from services.orchestrator.titles import Titles
from shared.agents import Agent
from shared.archive import Archive
from shared.cancellation import end_tasks
from shared.deployment import prepare
from shared.errors import LogUnavailable
from shared.event_log import EventLog
from shared.hot_state import HotState
from shared.observability import get_logger
from shared.passages import find_passages
from shared.probes import takes_writes
from shared.redis_client import Redis
from shared.settings import Settings
from shared.thread_log import ThreadLog
from shared.thread_stream import ThreadStream

STOP_READING_SECONDS_MAX: Final = 2.0  # reads in flight, and what they were given
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
    titles: Titles
    consumer: Consumer


class Orchestrator:
    """A ``lifecycle.Service``. What does not end while it drains is handed over."""

    def __init__(self, parts: Parts, *, drain_seconds: float) -> None:
        self._parts = parts
        self._drain_seconds = drain_seconds
        self._background: list[asyncio.Task[None]] = []
        self._is_draining = False
        self._hurried = asyncio.Event()

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
        if not self._background or self._is_draining or self._broken():
            return False
        return await takes_writes(self._parts.redis)

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

    def hurry(self) -> None:
        """Hand over now, or as soon as the drain begins."""
        self._hurried.set()

    async def drain(self) -> None:
        """Read no more, let jobs end for as long as there is time, hand the others over."""
        deadline = asyncio.get_running_loop().time() + self._drain_seconds
        self._is_draining = True
        if self._broken():
            self.hurry()
        await self._parts.titles.stop()
        await self._read_no_more()
        await self._jobs_end(deadline - HAND_OVER_SECONDS_MAX - STOP_SECONDS_MAX)
        await self._hand_over()

    async def _read_no_more(self) -> None:
        """Stop reading; a read that was cut off may have been given an entry: give it back."""
        consumer = self._parts.consumer
        with suppress(LogUnavailable, TimeoutError):
            async with asyncio.timeout(STOP_READING_SECONDS_MAX):
                await consumer.stop_reading()
                await consumer.give_back()

    async def _jobs_end(self, deadline: float) -> None:
        """Return when no job runs here, when somebody is in a hurry, or at the deadline."""
        tasks = self._parts.consumer.tasks
        log.info("jobs may end", jobs=len(tasks))
        hurried = asyncio.create_task(self._hurried.wait())
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    while tasks and not hurried.done():
                        await asyncio.wait({hurried, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()

    async def _hand_over(self) -> None:
        """Leave what runs to others, with what it has said, and what was never begun."""
        consumer = self._parts.consumer
        log.info("handing over", jobs=len(consumer.tasks))
        self._parts.jobs.hand_over()
        if consumer.tasks:
            await asyncio.wait(consumer.tasks, timeout=HAND_OVER_SECONDS_MAX)
        await end_tasks(consumer.tasks, seconds_max=STOP_SECONDS_MAX)
        with suppress(LogUnavailable):
            await consumer.give_back()

    async def stop(self) -> None:
        with suppress(LogUnavailable):
            await self._parts.consumer.stop_reading()
        await self._parts.titles.stop()
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
    heartbeat = _heartbeat(settings, event_log)
    titles = _titles(settings, redis, hot, model)
    ports = JobPorts(
        event_log=event_log,
        stream=ThreadStream(hot, archive),
        appender=appender,
        heartbeat=heartbeat,
        second_offer=_second_offer(settings, event_log, redis, archive),
        answering=_answering(settings, hot, archive, model),
        titles=titles,
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
            titles=titles,
            consumer=consumer,
        ),
        drain_seconds=settings.drain_seconds,
    )


def _answering(settings: Settings, hot: HotState, archive: Archive, model: Model) -> Answering:
    return Answering(
        graph=build_graph(),
        model=model,
        default_model=settings.llm_model,
        context_tokens=settings.llm_context_tokens,
        history=ThreadHistory(hot, archive),
        attachments=AttachedTexts(hot, archive),
        stream=ThreadStream(hot, archive),
        archive=archive,
        find_passages=find_passages,
        off_loop=OffLoop(),
    )


def _heartbeat(settings: Settings, event_log: EventLog) -> Heartbeat:
    return Heartbeat(
        settings.required("redis_url"),
        event_log,
        consumer=settings.consumer_name,
        every_seconds=settings.heartbeat_seconds,
        lease_seconds=settings.lease_seconds,
    )


def _second_offer(
    settings: Settings, event_log: EventLog, redis: Redis, archive: Archive
) -> SecondOffer:
    ttl_seconds = settings.idle_ttl_seconds
    return SecondOffer(
        event_log=event_log,
        threads=ThreadLog(redis, settings.partitions, idle_ttl_seconds=ttl_seconds),
        archive=archive,
        queue_max=settings.queue_per_thread_max,
    )


def _titles(settings: Settings, redis: Redis, hot: HotState, model: Model) -> Titles:
    threads = ThreadLog(redis, settings.partitions, idle_ttl_seconds=settings.idle_ttl_seconds)
    return Titles(threads, hot, model, default_model=settings.llm_model)


def _limits(settings: Settings) -> JobLimits:
    return JobLimits(
        attempts_max=settings.attempts_max,
        job_deadline_seconds=settings.job_deadline_seconds,
        default_model=settings.llm_model,
    )
