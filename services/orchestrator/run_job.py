"""Runs one job: from a delivered command to its ``done``, or until somebody else has it.

    deliver ─▶ begin ─┬─ BEGUN ─────▶ graph ─┬─ answered ──────▶ done {done}
                ▲     │                      ├─ model failed ──▶ error, done {failed}
                │     │                      ├─ broke off ──┐
                └─────┼──────────────────────┼──────────────┘ next attempt
                      │                      ├─ cancel ────────▶ done {cancelled}
                      │                      ├─ deadline ──────▶ error, done {failed}
                      │                      ├─ hand over ─────▶ text flushed, lease given back
                      │                      └─ lease lost ────▶ nothing: another has it
                      ├─ CANCELLED, EXHAUSTED ─▶ the text so far, done
                      └─ ENDED, LOST, UNKNOWN ─▶ nothing to run

Failures
    Worker dies            The lease runs out; a reclaimer begins the next attempt.
    Redis or Postgres away The job waits: reading history is tried again, appends are sent again. If
                           the lease cannot be renewed in the meantime, the job stops here.
    Redis lost the job     What is known of it is offered again (``second_offer``), once.
    A defect in a node     Counts as an attempt: nothing is acknowledged, the entry is taken over,
                           and after the last attempt the job fails and is listed as dead.
    Delivered twice        A job runs once in a worker. If its lease is really over, it is delivered
                           again after it has stopped here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.orchestrator.answering import Answering
from services.orchestrator.appender import Appender
from services.orchestrator.ending import EXHAUSTED, Ending, Failure
from services.orchestrator.heartbeat import Heartbeat
from services.orchestrator.job_writer import JobForgotten, JobWriter, LeaseLost, Stop
from services.orchestrator.last_words import text_of_attempt
from services.orchestrator.model import Completion, ModelError
from services.orchestrator.second_offer import SecondOffer
from services.orchestrator.titles import Titles
from shared.agents import Agent
from shared.cancellation import end_tasks
from shared.commands import RunJob
from shared.errors import UnknownJob
from shared.event_log import Begun, EventLog, Lease
from shared.observability import bound, get_logger
from shared.thread_stream import ThreadStream

NEXT_ATTEMPT_SECONDS: Final = 0.5  # a model that broke off is left alone for so long
ABORT_SECONDS_MAX: Final = 1.0  # a node that ignores its cancellation is not waited for longer

log = get_logger()


@dataclass(frozen=True, slots=True)
class JobPorts:
    """All that running a job touches."""

    event_log: EventLog
    stream: ThreadStream
    appender: Appender
    heartbeat: Heartbeat
    second_offer: SecondOffer
    answering: Answering
    titles: Titles
    agents: Mapping[str, Agent]  # the first one answers for those that are no longer there


@dataclass(frozen=True, slots=True)
class JobLimits:
    attempts_max: int
    job_deadline_seconds: float  # of one attempt
    default_model: str


class Jobs:
    """The jobs that run here, by id."""

    def __init__(self, ports: JobPorts, limits: JobLimits, *, consumer: str) -> None:
        self._ports, self._limits, self._consumer = ports, limits, consumer
        self._running: dict[str, _JobRun] = {}
        self._handing_over = False

    async def run(self, command: RunJob, entry_id: str) -> None:
        """Bring a delivered job to its end, to another worker, or to its next delivery.

        Raises UnknownJob; LogUnavailable, when the entry will be delivered again.
        """
        if self._handing_over or command.job_id in self._running:
            return
        with bound(**command.model_dump(include={"job_id", "thread_id", "trace_id"})):
            try:
                await self._run(command, entry_id)
            except JobForgotten:
                log.warning("Redis has lost the job")
                await self._ports.second_offer.make(command)  # perhaps to this very worker

    async def _run(self, command: RunJob, entry_id: str) -> None:
        job = _JobRun(self._ports, self._limits, command, _Delivery(entry_id, self._consumer))
        self._running[command.job_id] = job
        try:
            await job.run()
        finally:
            del self._running[command.job_id]

    def cancel(self, job_id: str) -> None:
        """End a running job with what it has said; nothing happens if it does not run here."""
        if job := self._running.get(job_id):
            job.stop(Stop.CANCEL)

    def hand_over(self) -> None:
        """Leave the jobs that run here to other workers, and begin no more."""
        self._handing_over = True
        for job in self._running.values():
            job.stop(Stop.HAND_OVER)


@dataclass(frozen=True, slots=True)
class _Delivery:
    entry_id: str
    consumer: str


class _JobRun:
    """One job while it is this worker's: its attempts, one behind the other."""

    def __init__(
        self, ports: JobPorts, limits: JobLimits, command: RunJob, delivery: _Delivery
    ) -> None:
        self._ports, self._limits, self._delivery = ports, limits, delivery
        self._agent = ports.agents.get(command.agent) or next(iter(ports.agents.values()))
        self._command = command.model_copy(update={"agent": self._agent.name})
        self._stopped: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()

    def stop(self, reason: Stop) -> None:
        """End what runs; the first reason counts."""
        if not self._stopped.done():
            self._stopped.set_result(reason)

    async def run(self) -> None:
        """Raises JobForgotten, UnknownJob, LogUnavailable."""
        another = True
        while another:
            begun = await self._begin()
            log.debug("begin", outcome=begun.outcome)
            if begun.outcome == "UNKNOWN":
                raise UnknownJob()
            if begun.lease is None:
                return
            try:
                another = await self._attempt(begun.lease, begun)
            except JobForgotten:
                raise
            except LeaseLost:
                log.warning("lease lost", attempt=begun.lease.attempt)
                return

    async def _begin(self) -> Begun:
        return await self._ports.event_log.begin_attempt(
            self._command,
            entry_id=self._delivery.entry_id,
            consumer=self._delivery.consumer,
            attempts_max=self._limits.attempts_max,
            model=self._agent.model or self._limits.default_model,
        )

    async def _attempt(self, lease: Lease, begun: Begun) -> bool:
        """Whether another attempt is due here. Raises LeaseLost."""

        def stop(reason: Stop) -> None:
            if reason is Stop.REWOUND:
                writer.contest()
                return
            if reason is Stop.LOST:
                writer.lose()
            self.stop(reason)

        writer = self._ports.appender.open(lease, stop=stop)
        ending = Ending(writer, self._command)
        try:
            if begun.outcome == "BEGUN":
                with self._ports.heartbeat.holding(lease, stop):
                    return await self._answer(lease, writer, ending)
            text = await text_of_attempt(self._ports.stream, lease)
            if begun.outcome == "CANCELLED":
                await ending.cancelled(text=text)
            else:
                await ending.failed(EXHAUSTED, text=text, given_up=True)
            return False
        finally:
            writer.lose()

    async def _answer(self, lease: Lease, writer: JobWriter, ending: Ending) -> bool:
        outcome = await self._outcome(writer)
        broke_off = isinstance(outcome, Failure) and outcome.retryable and writer.has_text
        if broke_off and lease.attempts_used < self._limits.attempts_max:
            await writer.flushed()
            await asyncio.wait({self._stopped}, timeout=NEXT_ATTEMPT_SECONDS)
            if not self._stopped.done():
                return True
            outcome = self._stopped.result()
        match outcome:
            case Completion():
                text = writer.text
                await ending.answered(outcome)
                self._ports.titles.suggest(self._agent, self._command, text)
            case Failure():
                await ending.failed(outcome, given_up=broke_off)
            case Stop.CANCEL:
                await ending.cancelled()
            case Stop.HAND_OVER:
                await writer.flushed()
                await self._ports.event_log.release_lease(lease, self._delivery.consumer)
                log.info("handed over", attempt=lease.attempt)
            case Stop():
                raise JobForgotten() if outcome is Stop.FORGOTTEN else LeaseLost()
        return False

    async def _outcome(self, writer: JobWriter) -> Completion | Failure | Stop:
        """How the attempt's answer ended. What was said of it is in the writer by then."""
        answer = asyncio.create_task(self._generate(writer))
        seconds = self._limits.job_deadline_seconds
        try:
            done, _ = await asyncio.wait(
                {answer, self._stopped}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            await end_tasks([answer], seconds_max=ABORT_SECONDS_MAX)
        if answer in done:
            return answer.result()
        if self._stopped in done:
            return self._stopped.result()
        return Failure("job_deadline", f"the answer took longer than {seconds:g} s", False)

    async def _generate(self, writer: JobWriter) -> Completion | Failure:
        try:
            return await self._ports.answering.answer(self._agent, self._command, writer)
        except ModelError as error:
            log.warning("model failed", code=error.code, detail=error.detail)
            return Failure(error.code, error.message, error.retryable)
