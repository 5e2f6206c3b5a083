"""A gateway of a few lines: asks, cancels, and reads what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

from shared.codec import Record
from shared.commands import OnBusy, RunJob
from shared.deployment import prepare
from shared.event_log import EventLog
from shared.events import Attachment, MessageDeleted, ThreadCreated
from shared.hot_state import HotState, Job
from shared.ids import new_job_id, new_message_id, new_thread_id, new_trace_id, partition_of_thread
from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.redis_client import Redis
from shared.thread_log import ThreadLog
from shared.times import utc_now
from tests.integration.orchestrator.waiting import until
from tests.support.event_history import check_job_history, check_thread_history

USER = "alice"
QUEUE_MAX = 64
RECORDS_MAX = 100_000

Event = dict[str, Any]


class Gateway:
    def __init__(self, redis: Redis, partitions: int) -> None:
        self.redis = redis
        self.partitions = partitions
        self.log = EventLog(redis, partitions)
        self.hot = HotState(redis, partitions)

    def keys(self, thread_id: str) -> PartitionKeys:
        return PartitionKeys(partition_of_thread(thread_id, self.partitions))

    def thread_in(self, partition: int) -> str:
        """The id of a thread that is not there yet, in this partition."""
        while True:
            thread_id = new_thread_id()
            if partition_of_thread(thread_id, self.partitions) == partition:
                return thread_id

    async def ask(
        self,
        content: str = "hello",
        *,
        agent: str = "default",
        thread_id: str | None = None,
        on_busy: OnBusy = "enqueue",
        replaces: tuple[str, int] | None = None,
        attachments: Sequence[Attachment] = (),
    ) -> RunJob:
        """Post a message, in a new thread if none is named; ``replaces`` is a question's place."""
        thread_id = thread_id or new_thread_id()
        partition = self.keys(thread_id).partition
        command = RunJob(
            job_id=new_job_id(partition),
            thread_id=thread_id,
            message_id=new_message_id(partition),
            reply_id=new_message_id(partition),
            user=USER,
            agent=agent,
            content=content,
            trace_id=new_trace_id(),
            replaces=replaces and replaces[0],
            replaced_position=replaces and replaces[1],
            attachments=tuple(attachments),
            at=utc_now(),
        )
        created = ThreadCreated(thread_id=thread_id, at=command.at, owner=USER)
        await self.log.accept_job(command, on_busy=on_busy, queue_max=QUEUE_MAX, create=created)
        return command

    async def delete(self, command: RunJob) -> None:
        """Delete a question."""
        threads = ThreadLog(self.redis, self.partitions, idle_ttl_seconds=600)
        event = MessageDeleted(
            thread_id=command.thread_id,
            at=utc_now(),
            message_id=command.message_id,
            job_id=command.job_id,
            user=USER,
        )
        await threads.change_thread(USER, event)

    async def cancel(self, command: RunJob) -> str | None:
        return await self.log.request_cancel(command.job_id, command.thread_id)

    async def job(self, command: RunJob) -> Job:
        job = await self.hot.job(command.job_id)
        assert job is not None
        return job

    async def records(self, thread_id: str) -> list[Record]:
        return await self.hot.records(thread_id, after=0, count=RECORDS_MAX)

    async def events(self, command: RunJob) -> list[Event]:
        """The job's events so far, which must be a beginning of a right history."""
        records = await self.records(command.thread_id)
        check_thread_history(records)
        return [json.loads(record.data) for record in records if record.stream == command.job_id]

    async def reached(
        self, command: RunJob, holds: Callable[[list[Event]], bool], *, seconds: float | None = None
    ) -> list[Event]:
        """The job's events, once they are so."""
        events: list[Event] = []

        async def are_so() -> bool:
            events[:] = await self.events(command)
            return holds(events)

        await until(are_so, seconds=seconds)
        return events

    async def saying(self, command: RunJob, *, tokens: int = 1, attempt: int = 1) -> list[Event]:
        """The job's events, once an attempt has said so much."""
        return await self.reached(command, lambda events: deltas(events, attempt) >= tokens)

    async def done(self, command: RunJob, *, seconds: float | None = None) -> list[Event]:
        """The job's events, once it is over: a whole history whose text adds up."""
        events = await self.reached(
            command, lambda events: bool(events) and events[-1]["type"] == "done", seconds=seconds
        )
        records = await self.records(command.thread_id)
        check_job_history([record for record in records if record.stream == command.job_id])
        assert events[-1]["message_id"] == command.reply_id
        return events

    async def pending(self, consumer: str | None = None) -> int:
        """Commands delivered to a worker, or to any, and not yet done; all at one moment."""
        pipeline: Any = self.redis.pipeline(transaction=True)
        for partition in range(self.partitions):
            stream = PartitionKeys(partition).commands
            pipeline.xpending_range(stream, ORCHESTRATORS, "-", "+", 1000, consumer)
        return sum(len(rows) for rows in await pipeline.execute())

    async def holder(self, command: RunJob) -> str:
        """The worker that the job's command was delivered to."""
        entry_id = await self.entry_of(command)
        rows: Any = await self.redis.xpending_range(
            self.keys(command.thread_id).commands, ORCHESTRATORS, entry_id, entry_id, 1
        )
        return rows[0]["consumer"].decode()

    async def entry_of(self, command: RunJob) -> str:
        job = self.keys(command.thread_id).job(command.job_id)
        return (await cast("Any", self.redis).hget(job, "entry")).decode()

    async def delivered(self, consumer: str) -> tuple[RunJob, str]:
        """A new command and its entry, which Redis has delivered to a worker."""
        await prepare(self.redis, self.partitions)
        command = await self.ask()
        stream = self.keys(command.thread_id).commands
        await self.redis.xreadgroup(ORCHESTRATORS, consumer, {stream: ">"}, count=1)
        return command, await self.entry_of(command)

    async def deliver_again(self, command: RunJob, consumer: str, *, idle_ms: int = 0) -> str:
        """Hand a command to a worker as if its lease were over, so old already; its entry."""
        entry_id = await self.entry_of(command)
        stream = self.keys(command.thread_id).commands
        await self.redis.xclaim(
            stream, ORCHESTRATORS, consumer, 0, [entry_id], idle=idle_ms, justid=True
        )
        return entry_id

    async def dead(self) -> list[dict[bytes, bytes]]:
        """The dead letters of all partitions."""
        letters: list[dict[bytes, bytes]] = []
        for partition in range(self.partitions):
            rows: Any = await self.redis.xrange(PartitionKeys(partition).dead)
            letters += [fields for _, fields in rows]
        return letters


def deltas(events: list[Event], attempt: int) -> int:
    """The pieces of the model that an attempt has passed on."""
    return sum(e["deltas"] for e in events if e["type"] == "token" and e["attempt"] == attempt)


def kinds(events: list[Event]) -> list[str]:
    """The types of events, tokens that follow each other counted once."""
    found: list[str] = []
    for event in events:
        if event["type"] != "token" or found[-1:] != ["token"]:
            found.append(event["type"])
    return found


def words(first: int, last: int) -> str:
    """What the model server says from one token to another."""
    return "".join(f"t{number} " for number in range(first, last + 1))
