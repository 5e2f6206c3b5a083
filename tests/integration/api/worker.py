"""A worker under the test's thumb: it writes events when, and in the order, a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.codec import Record, decode_command, encode
from shared.commands import RunJob
from shared.deployment import prepare
from shared.event_log import Append, EventLog, Lease, NumberedEvent
from shared.events import Done, ErrorRaised, FinalStatus, JobEvent, Token
from shared.hot_state import HotState
from shared.ids import partition_of, partition_of_thread
from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.redis_client import Redis
from shared.times import utc_now
from tests.integration.api.gateways import PARTITIONS

CONSUMER = "worker-of-the-test"


class Worker:
    """Takes commands and hands out the attempts it has begun."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.log = EventLog(redis, PARTITIONS)
        self.hot = HotState(redis, PARTITIONS)

    async def prepare(self) -> None:
        await prepare(self.redis, PARTITIONS)

    def keys(self, thread_id: str) -> PartitionKeys:
        return PartitionKeys(partition_of_thread(thread_id, PARTITIONS))

    async def begin(self, job_id: str) -> Attempt:
        """Begin a job, which must be the next of its partition."""
        stream = PartitionKeys(partition_of(job_id)).commands
        reply: Any = await self.redis.xreadgroup(ORCHESTRATORS, CONSUMER, {stream: ">"}, count=1)
        entry_id, fields = reply[0][1][0]
        command = decode_command(fields[b"d"])
        assert command.job_id == job_id
        return await self._begin(command, entry_id.decode())

    async def begin_again(self, attempt: Attempt) -> Attempt:
        """Take the job over, as after a lost lease."""
        return await self._begin(attempt.command, attempt.entry_id)

    async def _begin(self, command: RunJob, entry_id: str) -> Attempt:
        begun = await self.log.begin_attempt(
            command, entry_id=entry_id, consumer=CONSUMER, attempts_max=9, model="m"
        )
        assert begun.lease is not None, begun
        return Attempt(self, command, entry_id, begun.lease, begun.lease.seq)

    async def records(self, thread_id: str, *, after: int = 0) -> list[Record]:
        """The thread's events as Redis has them."""
        return await self.hot.records(thread_id, after=after, count=100_000)

    async def answer(self, job_id: str, texts: Sequence[str] = ("Hel", "lo")) -> None:
        """Run a job from its beginning to its end."""
        attempt = await self.begin(job_id)
        await attempt.say(*texts)
        await attempt.end()


@dataclass
class Attempt:
    """The right to write a job's events; ``seq`` is the last one written."""

    worker: Worker
    command: RunJob
    entry_id: str
    lease: Lease
    seq: int
    text: str = ""

    async def say(self, *texts: str) -> None:
        """One token event for each text, in one append."""
        events = [Token(**self._head(place), content=text) for place, text in enumerate(texts, 1)]
        await self._append(events)
        self.text += "".join(texts)

    async def end(self, status: FinalStatus = "done") -> None:
        await self._append([self._done(status, 1)], status)

    async def fail(self, code: str = "model_unavailable") -> None:
        """End with `error` and `done`, in one append."""
        error = ErrorRaised(**self._head(1), code=code, message="It is away.", retryable=True)
        await self._append([error, self._done("failed", 2)], "failed")

    def _done(self, status: FinalStatus, place: int) -> Done:
        return Done(
            **self._head(place),
            status=status,
            content=self.text,
            message_id=self.command.reply_id,
            finish_reason="stop",
            latency_ms=1,
        )

    def _head(self, place: int) -> dict[str, Any]:
        return {
            "job_id": self.lease.job_id,
            "seq": self.seq + place,
            "attempt": self.lease.attempt,
            "at": utc_now(),
        }

    async def _append(self, events: Sequence[JobEvent], final: FinalStatus | None = None) -> None:
        numbered = [NumberedEvent(event.seq, event.type, encode(event)) for event in events]
        appended = await self.worker.log.append_events(Append(self.lease, numbered, final))
        assert appended.code == "OK", appended
        self.seq += len(events)
