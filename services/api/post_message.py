"""Asks: a message into a thread, and a job that will answer it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from services.api.authentication import Caller
from services.api.problems import BadRequest
from services.api.threads import Threads
from shared.agents import Agent, default_agent
from shared.archive import Archive
from shared.commands import OnBusy, RunJob
from shared.event_log import Accepted, EventLog
from shared.events import ThreadCreated, utc_now
from shared.hot_state import HotState
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


class Asking:
    def __init__(
        self,
        log: EventLog,
        threads: Threads,
        hot: HotState,
        archive: Archive,
        *,
        agents: Mapping[str, Agent],
        partitions: int,
        queue_max: int,
    ) -> None:
        self._log, self._threads, self._hot, self._archive = log, threads, hot, archive
        self._agents, self._partitions, self._queue_max = agents, partitions, queue_max

    async def ask(
        self,
        caller: Caller,
        content: str,
        *,
        thread_id: str | None,
        agent: str | None,
        metadata: dict[str, Any],
        on_busy: OnBusy,
        idempotency: Idempotency | None,
    ) -> Accepted:
        """Post a message and queue its job; without a thread, a new one is made for it.

        Raises BadRequest (unknown agent), NotFound, ThreadBusy, QueueFull, IdempotencyMismatch.
        """
        if agent is not None and agent not in self._agents:
            raise BadRequest("unknown_agent", f"There is no agent {agent!r}.")
        place = thread_id or self._new_thread_id(caller, idempotency)
        thread = await self._thread(
            caller, place, named=thread_id is not None, idempotency=idempotency
        )
        known = thread.agent if thread and thread.agent in self._agents else None
        command = self._command(
            caller, place, content, agent or known or default_agent(self._agents), metadata
        )
        create = None
        if thread is None:
            create = ThreadCreated(
                thread_id=place, at=command.at, owner=caller.user, agent=command.agent
            )
        return await self._threads.loaded(
            place,
            lambda: self._log.accept_job(
                command,
                on_busy=on_busy,
                queue_max=self._queue_max,
                create=create,
                idempotency=idempotency,
            ),
        )

    async def _thread(
        self, caller: Caller, thread_id: str, *, named: bool, idempotency: Idempotency | None
    ) -> Thread | None:
        """The thread to write into, None when it is to be made.

        A key names its thread: the request may be a repeat, long after Redis let the thread go.
        """
        if named:
            return await self._threads.get(caller.user, thread_id)
        if idempotency is None:
            return None
        return await self._hot.thread(thread_id) or await self._archive.thread(thread_id)

    def _new_thread_id(self, caller: Caller, idempotency: Idempotency | None) -> str:
        if idempotency is None:
            return new_thread_id()
        return thread_id_for_key(caller.user, idempotency.key)

    def _command(
        self, caller: Caller, thread_id: str, content: str, agent: str, metadata: dict[str, Any]
    ) -> RunJob:
        partition = partition_of_thread(thread_id, self._partitions)
        return RunJob(
            job_id=new_job_id(partition),
            thread_id=thread_id,
            message_id=new_message_id(partition),
            reply_id=new_message_id(partition),
            user=caller.user,
            agent=agent,
            content=content,
            metadata=metadata,
            trace_id=new_trace_id(),
            session_id=caller.session_id,
            at=utc_now(),
        )


def idempotency_of(key: str | None, what: str, body: Any) -> Idempotency | None:
    """The key with a fingerprint of the request. Raises BadRequest for a key out of bounds."""
    if key is None:
        return None
    if not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise BadRequest(
            "bad_idempotency_key", "An Idempotency-Key has 1 to 255 visible characters."
        )
    canonical = json.dumps([what, body.model_dump(mode="json")], sort_keys=True)
    return Idempotency(key, hashlib.sha256(canonical.encode()).hexdigest())
