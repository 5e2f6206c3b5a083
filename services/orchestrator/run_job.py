"""Runs one job: from a delivered command to its ``done``, or until somebody else has it.

    deliver ─▶ begin_attempt ─┬─ BEGUN ─────▶ graph ─┬─ answered ───────────────▶ done {done}
                  ▲           │                      ├─ model failed early ─────▶ error, done {failed}
                  │           │                      ├─ model broke off ──┐
                  └───────────┼──────────────────────│────────────────────┘ next attempt
                              │                      ├─ cancel ─────────────────▶ done {cancelled}
                              │                      ├─ deadline ───────────────▶ error, done {failed}
                              │                      ├─ shutdown ─▶ text flushed, lease handed over
                              │                      └─ lease lost ▶ nothing: another has it
                              ├─ CANCELLED / EXHAUSTED ─▶ the text so far, done
                              └─ ENDED / LOST / UNKNOWN ▶ nothing to run

Failures
    Worker dies            The lease runs out; a reclaimer begins the next attempt.
    Redis or Postgres away The job waits: reading history is tried again, appends are sent again. If
                           the lease cannot be renewed in the meantime, the job stops here.
    A defect in a node     Counts as an attempt: nothing is acknowledged, the entry is taken over,
                           and after the last attempt the job fails and is listed as dead.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from services.orchestrator.appender import Appender, JobWriter, LeaseLost
from services.orchestrator.ending import EXHAUSTED, Ending, Failure
from services.orchestrator.graph.state import GraphState, Ports
from services.orchestrator.heartbeat import Heartbeat
from services.orchestrator.history import ThreadHistory
from services.orchestrator.last_words import text_of_attempt
from services.orchestrator.model import Completion, Delta, Model, ModelError
from shared.agents import Agent
from shared.commands import RunJob
from shared.errors import ArchiveUnavailable, LogUnavailable, UnknownJob
from shared.event_log import Begun, EventLog, Lease
from shared.hot_state import HotState
from shared.observability import bound, get_logger

STORE_RETRY_SECONDS: Final = 0.25
NEXT_ATTEMPT_SECONDS: Final = 0.5

log = get_logger()


class Stop(Enum):
    """Why a running attempt is to end before its answer does."""

    CANCEL = auto()
    LOST = auto()
    SHUTDOWN = auto()


@dataclass(frozen=True, slots=True)
class Limits:
    attempts_max: int
    job_deadline_seconds: float
    context_tokens: int
    default_model: str


class Jobs:
    """Runs jobs with the ports it is given. Many run at once; each is known by its id."""

    def __init__(
        self,
        *,
        event_log: EventLog,
        hot: HotState,
        history: ThreadHistory,
        appender: Appender,
        heartbeat: Heartbeat,
        model: Model,
        graph: Any,
        agents: dict[str, Agent],
        limits: Limits,
        consumer: str,
    ) -> None:
        self._log, self._hot, self._history = event_log, hot, history
        self._appender, self._heartbeat = appender, heartbeat
        self._model, self._graph, self._agents = model, graph, agents
        self._limits, self._consumer = limits, consumer
        self._running: dict[str, asyncio.Future[Stop]] = {}

    def stop(self, job_id: str, reason: Stop) -> None:
        """End a running attempt; nothing happens if it does not run here."""
        stopped = self._running.get(job_id)
        if stopped is not None and not stopped.done():
            stopped.set_result(reason)

    def stop_all(self, reason: Stop) -> None:
        for job_id in list(self._running):
            self.stop(job_id, reason)

    async def run(self, command: RunJob, entry_id: str) -> None:
        """Bring a delivered job to its end, to another worker, or to its next delivery."""
        with bound(job_id=command.job_id, thread_id=command.thread_id, trace_id=command.trace_id):
            failure = EXHAUSTED
            while True:
                begun = await self._begin(command, entry_id)
                log.debug("begin", outcome=begun.outcome)
                if begun.outcome == "UNKNOWN":
                    raise UnknownJob()
                if begun.lease is None:
                    return
                try:
                    again = await self._attempt(command, begun, begun.lease, failure)
                except LeaseLost:
                    log.warning("lease lost", attempt=begun.lease.attempt)
                    return
                if again is None:
                    return
                failure = again
                await asyncio.sleep(NEXT_ATTEMPT_SECONDS)

    async def _begin(self, command: RunJob, entry_id: str) -> Begun:
        return await self._log.begin_attempt(
            command,
            entry_id=entry_id,
            consumer=self._consumer,
            attempts_max=self._limits.attempts_max,
            model=self._agent(command).model or self._limits.default_model,
        )

    async def _attempt(
        self, command: RunJob, begun: Begun, lease: Lease, failure: Failure
    ) -> Failure | None:
        """None when nothing is left to do here, else why another attempt is due."""
        stopped: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        self._running[command.job_id] = stopped

        def on_cancel() -> None:
            self.stop(command.job_id, Stop.CANCEL)

        writer = self._appender.open(lease, on_cancel=on_cancel)
        ending = Ending(writer, command)

        def on_lost() -> None:
            writer.lose()
            self.stop(command.job_id, Stop.LOST)

        try:
            if begun.outcome != "BEGUN":
                text = await text_of_attempt(self._hot, lease)
                await ending.of_unrun(begun.outcome == "CANCELLED", text, failure)
                return None
            with self._heartbeat.holding(lease, on_lost=on_lost, on_cancel=on_cancel):
                return await self._answer(command, lease, writer, ending, stopped)
        finally:
            del self._running[command.job_id]
            writer.lose()

    async def _answer(
        self,
        command: RunJob,
        lease: Lease,
        writer: JobWriter,
        ending: Ending,
        stopped: asyncio.Future[Stop],
    ) -> Failure | None:
        answer = asyncio.ensure_future(self._invoke(command, lease, writer))
        try:
            await asyncio.wait({answer, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                answer.cancel()
                await asyncio.wait({answer})
                return await self._stopped(stopped.result(), lease, writer, ending)
            completion = answer.result()
        except ModelError as error:
            log.warning("model failed", code=error.code, detail=error.detail)
            failure = Failure(error.code, error.message, error.retryable)
            if error.retryable and writer.has_text:
                await writer.flushed()
                return failure
            await ending.failed(failure)
        except TimeoutError:
            seconds = self._limits.job_deadline_seconds
            message = f"the answer took longer than {seconds:g} s"
            await ending.failed(Failure("job_deadline", message, retryable=False))
        else:
            await ending.answered(completion)
        finally:
            answer.cancel()
        return None

    async def _stopped(self, reason: Stop, lease: Lease, writer: JobWriter, ending: Ending) -> None:
        if reason is Stop.CANCEL:
            await ending.cancelled()
        elif reason is Stop.SHUTDOWN:
            await writer.flushed()
            await self._log.release_lease(lease, self._consumer)
            log.info("handed over", attempt=lease.attempt)
        else:
            raise LeaseLost()

    async def _invoke(self, command: RunJob, lease: Lease, writer: JobWriter) -> Completion:
        async def sink(delta: Delta) -> None:
            writer.token(delta.content, delta.deltas)
            await writer.room()

        ports = Ports(
            agent=self._agent(command),
            model=self._model,
            default_model=self._limits.default_model,
            context_tokens=self._limits.context_tokens,
            history=self._patient_history,
            sink=sink,
        )
        state: GraphState = {"command": command, "position": lease.first}
        async with asyncio.timeout(self._limits.job_deadline_seconds):
            result = await self._graph.ainvoke(state, context=ports)
        return result["completion"]

    async def _patient_history(self, thread_id: str, position: int) -> Any:
        """The history, however long the stores are away: the job's deadline is the bound."""
        while True:
            try:
                return await self._history.before(thread_id, position)
            except (ArchiveUnavailable, LogUnavailable) as error:
                log.warning("history cannot be read, will try again", reason=str(error))
                await asyncio.sleep(STORE_RETRY_SECONDS)

    def _agent(self, command: RunJob) -> Agent:
        """The agent asked for; the first one if it has been taken out of the file since."""
        return self._agents.get(command.agent) or next(iter(self._agents.values()))
