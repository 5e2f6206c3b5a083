"""Asks: a message into a thread, and a job that will answer it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel

from services.api.authentication import Caller
from services.api.job_limit import JobLimit
from services.api.problems import BadRequest
from services.api.threads import Threads
from shared.agents import Agent, default_agent
from shared.commands import OnBusy, RunJob
from shared.event_log import Accepted, EventLog
from shared.events import Metadata, ThreadCreated
from shared.ids import (
    new_job_id,
    new_message_id,
    new_thread_id,
    new_trace_id,
    partition_of_thread,
    thread_id_for_key,
)
from shared.log_protocol import Idempotency
from shared.thread_log import Thread
from shared.times import utc_now


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and where; without a thread, a new one is made for it."""

    content: str
    thread_id: str | None
    agent: str | None
    metadata: Metadata
    on_busy: OnBusy


class Asking:
    def __init__(
        self,
        log: EventLog,
        threads: Threads,
        limit: JobLimit,
        *,
        agents: Mapping[str, Agent],
        partitions: int,
        queue_max: int,
    ) -> None:
        self._log, self._threads, self._limit, self._agents = log, threads, limit, agents
        self._partitions, self._queue_max = partitions, queue_max

    async def ask(
        self, caller: Caller, question: Question, idempotency: Idempotency | None
    ) -> Accepted:
        """Post a message and queue its job.

        Raises BadRequest (unknown agent), NotFound, ThreadBusy, QueueFull, TooManyJobs,
        IdempotencyMismatch.
        """
        check_agent(self._agents, question.agent)
        place = question.thread_id or _new_thread_id(caller, idempotency)
        thread = await self._thread(caller, question, place, idempotency)
        known = thread.agent if thread and thread.agent in self._agents else None
        agent = question.agent or known or default_agent(self._agents)
        command = self._command(caller, question, place, agent)
        create = None
        if thread is None:
            create = ThreadCreated(
                thread_id=place, at=command.at, owner=caller.user, agent=command.agent
            )
        accepting = partial(
            self._log.accept_job,
            command,
            on_busy=question.on_busy,
            queue_max=self._queue_max,
            create=create,
            idempotency=idempotency,
        )
        return await self._limit.admit(
            caller.user,
            command.job_id,
            lambda room: self._threads.loaded(place, lambda: accepting(room=room)),
        )

    async def _thread(
        self, caller: Caller, question: Question, place: str, idempotency: Idempotency | None
    ) -> Thread | None:
        """The thread to write into, None when it is to be made.

        A key names its thread: the request may be a repeat, long after Redis let the thread go.
        """
        if question.thread_id is not None:
            return await self._threads.get(caller.user, place)
        return await self._threads.known(place) if idempotency else None

    def _command(self, caller: Caller, question: Question, thread_id: str, agent: str) -> RunJob:
        partition = partition_of_thread(thread_id, self._partitions)
        return RunJob(
            job_id=new_job_id(partition),
            thread_id=thread_id,
            message_id=new_message_id(partition),
            reply_id=new_message_id(partition),
            user=caller.user,
            agent=agent,
            content=question.content,
            metadata=question.metadata,
            trace_id=new_trace_id(),
            session_id=caller.session_id,
            at=utc_now(),
        )


def _new_thread_id(caller: Caller, idempotency: Idempotency | None) -> str:
    return thread_id_for_key(caller.user, idempotency.key) if idempotency else new_thread_id()


def check_agent(agents: Mapping[str, Agent], name: str | None) -> None:
    """Raises BadRequest for an agent that is not configured."""
    if name is not None and name not in agents:
        raise BadRequest("unknown_agent", f"There is no agent {name!r}.")


def idempotency_of(
    key: str | None, what: str, body: BaseModel, *, thread_id: str | None = None
) -> Idempotency | None:
    """The key with a fingerprint of the request. Raises BadRequest for a key out of bounds.

    Keys belong to a user, and in a thread to that thread: its partition is the one place where
    a repeat can be recognised.
    """
    if key is None:
        return None
    if not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise BadRequest(
            "bad_idempotency_key", "An Idempotency-Key has 1 to 255 visible characters."
        )
    canonical = json.dumps([what, body.model_dump(mode="json")], sort_keys=True)
    fingerprint = hashlib.sha256(canonical.encode()).hexdigest()
    return Idempotency(f"{thread_id}:{key}" if thread_id else key, fingerprint)
