"""Asks: a message into a thread, and a job that will answer it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel

from services.api.authentication import Caller
from services.api.job_limit import JobLimit
from services.api.problems import BadRequest
from services.api.threads import Threads
from shared.agents import Agent, default_agent
from shared.archive import Archive
from shared.commands import OnBusy, RunJob
from shared.errors import NotFound
from shared.event_log import Accepted, EventLog
from shared.events import Attachment, Metadata, ThreadCreated
from shared.hot_state import HotState
from shared.idempotency import Claims, Idempotency, Plan
from shared.ids import new_thread_id
from shared.transcript import Message


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and where; without a thread, a new one is made for it.

    It may stand in the place of an earlier message; without content, the same is asked again.
    """

    content: str | None
    thread_id: str | None
    agent: str | None
    metadata: Metadata
    on_busy: OnBusy
    replaces: str | None = None
    attachments: Sequence[str] = ()  # ids of files of the thread


@dataclass(frozen=True, slots=True)
class Lookups:
    """How what a question refers to is found, in a thread of a user."""

    question_of: Callable[[str, str, str], Awaitable[Message]]  # that a message belongs to
    attachments: Callable[[str, str, Sequence[str]], Awaitable[tuple[Attachment, ...]]]


@dataclass(frozen=True, slots=True)
class JobsByKey:
    """Where keys are claimed, and where is seen whether their job was made."""

    claims: Claims
    hot: HotState
    archive: Archive


class Asking:
    def __init__(
        self,
        log: EventLog,
        threads: Threads,
        jobs: JobsByKey,
        limit: JobLimit,
        *,
        agents: Mapping[str, Agent],
        queue_max: int,
        lookups: Lookups,
    ) -> None:
        self._log, self._threads, self._limit, self._agents = log, threads, limit, agents
        self._claims, self._hot, self._archive = jobs.claims, jobs.hot, jobs.archive
        self._lookups, self._queue_max = lookups, queue_max

    async def ask(
        self,
        caller: Caller,
        question: Question,
        idempotency: Idempotency | None,
        *,
        planned: Callable[[str], None] | None = None,
    ) -> Accepted:
        """Post a message and queue its job. ``planned`` is told the thread's id before that.

        Raises BadRequest (unknown agent), NotFound (also of a file), ThreadBusy, QueueFull,
        TooManyJobs, IdempotencyMismatch.
        """
        check_agent(self._agents, question.agent)
        thread, place = None, question.thread_id
        if place is not None:
            thread = await self._threads.get(caller.user, place)
        attached = await self._attached(caller.user, question)
        mine = Plan.new(place or new_thread_id(), self._hot.partitions)
        plan = await self._claims.claim(caller.user, idempotency, mine)
        if plan != mine and await self._is_known(plan.job_id):
            return Accepted(plan.job_id, plan.message_id, plan.thread_id, plan.trace_id)
        if planned is not None:
            planned(plan.thread_id)
        known = thread.agent if thread and thread.agent in self._agents else None
        agent = question.agent or known or default_agent(self._agents)
        command = await self._in_its_place(question, _command(caller, question, plan, agent))
        if attached:
            command = command.model_copy(update={"attachments": attached})
        create = None
        if thread is None:
            create = ThreadCreated(
                thread_id=plan.thread_id, at=plan.at, owner=caller.user, agent=agent
            )
        accepting = partial(
            self._log.accept_job,
            command,
            on_busy=question.on_busy,
            queue_max=self._queue_max,
            create=create,
        )
        return await self._limit.admit(
            caller.user,
            command.job_id,
            lambda room: self._threads.loaded(plan.thread_id, lambda: accepting(room=room)),
        )

    async def _is_known(self, job_id: str) -> bool:
        """Whether an earlier request has made the job, which Redis may have let go since."""
        return bool(await self._hot.job(job_id) or await self._archive.job(job_id))

    async def _in_its_place(self, question: Question, command: RunJob) -> RunJob:
        """The command with what it takes from the question it replaces. Raises NotFound."""
        if question.replaces is None:
            return command
        old = await self._lookups.question_of(command.user, command.thread_id, question.replaces)
        place = {"replaces": old.message_id, "replaced_position": old.position}
        if question.content is None:
            place |= {"content": old.content, "metadata": command.metadata or old.metadata}
            files = tuple(Attachment.model_validate(each) for each in old.attachments)
            command = command.model_copy(update={"attachments": files})
        return command.model_copy(update=place)

    async def _attached(self, user: str, question: Question) -> tuple[Attachment, ...]:
        """The files that a question is about. Raises NotFound."""
        if not question.attachments:
            return ()
        if question.thread_id is None:
            raise NotFound()  # a thread that is yet to be made has no files
        return await self._lookups.attachments(user, question.thread_id, question.attachments)


def _command(caller: Caller, question: Question, plan: Plan, agent: str) -> RunJob:
    return RunJob(
        **plan.model_dump(),
        user=caller.user,
        agent=agent,
        content=question.content or "",
        metadata=question.metadata,
        session_id=caller.session_id,
    )


def check_agent(agents: Mapping[str, Agent], name: str | None) -> None:
    """Raises BadRequest for an agent that is not configured."""
    if name is not None and name not in agents:
        raise BadRequest("unknown_agent", f"There is no agent {name!r}.")


def idempotency_of(
    key: str | None, what: str, body: BaseModel | None, *, thread_id: str | None = None
) -> Idempotency | None:
    """The key with a fingerprint of the request. Raises BadRequest for a key out of bounds."""
    if key is None:
        return None
    if not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise BadRequest(
            "bad_idempotency_key", "An Idempotency-Key has 1 to 255 visible characters."
        )
    said = body.model_dump(mode="json") if body else None
    canonical = json.dumps([what, thread_id, said], sort_keys=True)
    fingerprint = hashlib.sha256(canonical.encode()).hexdigest()
    return Idempotency(key, fingerprint)
