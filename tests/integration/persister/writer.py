"""Makes a real log, by the scripts the services use, and remembers what it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.codec import Record, decode_command, encode
from shared.commands import RunJob
from shared.deployment import prepare
from shared.event_log import Append, EventLog, Lease, NumberedEvent
from shared.events import (
    Done,
    FinalStatus,
    ThreadCreated,
    Token,
)
from shared.hot_state import HotState
from shared.ids import new_job_id, new_message_id, new_thread_id, new_trace_id, partition_of_thread
from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.redis_client import Redis
from shared.thread_log import Change, ThreadLog
from shared.times import utc_now

PARTITIONS = 2
LIFE = "whichever: nothing was restored"
USER = "alice"
QUEUE_MAX = 32
TTL_SECONDS = 3600


class Writer:
    """A gateway and a worker in one. ``threads`` are the ids of all it made."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.threads: list[str] = []
        self._log = EventLog(redis, PARTITIONS)
        self._thread_log = ThreadLog(redis, PARTITIONS, idle_ttl_seconds=TTL_SECONDS)
        self._hot = HotState(redis, PARTITIONS)

    async def prepare(self) -> None:
        await prepare(self.redis, PARTITIONS)

    def keys(self, thread_id: str) -> PartitionKeys:
        return PartitionKeys(partition_of_thread(thread_id, PARTITIONS))

    async def ask(
        self, thread_id: str | None = None, content: str = "hello", **fields: Any
    ) -> RunJob:
        """Post a message, in a new thread if none is named."""
        thread_id = thread_id or new_thread_id()
        partition = self.keys(thread_id).partition
        command = RunJob(
            job_id=new_job_id(partition),
            thread_id=thread_id,
            message_id=new_message_id(partition),
            reply_id=new_message_id(partition),
            user=USER,
            agent="default",
            content=content,
            trace_id=new_trace_id(),
            at=utc_now(),
            **fields,
        )
        created = ThreadCreated(
            thread_id=thread_id, at=command.at, owner=USER, title="first", agent=command.agent
        )
        await self._log.accept_job(command, on_busy="enqueue", queue_max=QUEUE_MAX, create=created)
        if thread_id not in self.threads:
            self.threads.append(thread_id)
        return command

    async def begin(self, command: RunJob) -> Lease:
        """Begin the job of a command, which must be the thread's next."""
        stream = self.keys(command.thread_id).commands
        reply: Any = await self.redis.xreadgroup(ORCHESTRATORS, "w", {stream: ">"}, count=1)
        entry_id, fields = reply[0][1][0]
        assert decode_command(fields[b"d"]).job_id == command.job_id
        begun = await self._log.begin_attempt(
            command, entry_id=entry_id.decode(), consumer="w", attempts_max=3, model="m"
        )
        assert begun.lease is not None
        return begun.lease

    async def say(self, lease: Lease, texts: Sequence[str], *, after: int | None = None) -> int:
        """Append a token for each text; the last seq."""
        first = (lease.seq if after is None else after) + 1
        tokens = [
            Token(
                job_id=lease.job_id,
                seq=seq,
                attempt=lease.attempt,
                at=utc_now(),
                content=text,
                deltas=1,
            )
            for seq, text in enumerate(texts, start=first)
        ]
        await self._append(lease, tokens, None)
        return first + len(texts) - 1

    async def end(
        self, lease: Lease, reply_id: str, content: str, *, after: int, status: FinalStatus = "done"
    ) -> None:
        done = Done(
            job_id=lease.job_id,
            seq=after + 1,
            attempt=lease.attempt,
            at=utc_now(),
            status=status,
            content=content,
            message_id=reply_id,
            latency_ms=1,
        )
        await self._append(lease, [done], status)

    async def answer(self, command: RunJob, texts: Sequence[str]) -> None:
        """Begin the job, say the texts, end it."""
        lease = await self.begin(command)
        last = await self.say(lease, texts)
        await self.end(lease, command.reply_id, "".join(texts), after=last)

    async def chat(self, texts: Sequence[str] = ("a", "b", "c")) -> RunJob:
        """A question and its answer, in a new thread."""
        command = await self.ask()
        await self.answer(command, texts)
        return command

    async def change(self, event: Change) -> None:
        await self._thread_log.change_thread(USER, event)

    async def write(self, record: Record, thread_id: str) -> str:
        """An entry as it is, behind every check: into the log only. Its id."""
        fields: dict[Any, Any] = {"h": thread_id, "p": record.position, "j": record.stream}
        fields |= {"s": record.seq, "t": record.type, "d": record.data}
        return await self.write_fields(thread_id, fields)

    async def write_fields(self, thread_id: str, fields: dict[Any, Any]) -> str:
        reply: Any = await self.redis.xadd(self.keys(thread_id).log, fields)
        return reply.decode()

    async def records(self, thread_id: str) -> list[Record]:
        """The thread's events as Redis has them."""
        return await self._hot.records(thread_id, after=0, count=10_000)

    async def _append(
        self, lease: Lease, events: Sequence[Token | Done], final: FinalStatus | None
    ) -> None:
        numbered = [NumberedEvent(event.seq, event.type, encode(event)) for event in events]
        appended = await self._log.append_events(Append(lease, numbered, final))
        assert appended.code == "OK"
