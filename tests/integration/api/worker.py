"""A worker under the test's thumb: it writes events when, and in the order, a test wants."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
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
from tests.integration.api.gateways import PARTITIONS, Client

CONSUMER = "worker-of-the-test"


class Worker:
    """Takes commands and hands out the attempts it has begun."""

    def __init__(self, redis: Redis, *, silent_log: EventLog | None = None) -> None:
        """``silent_log`` appends without telling anybody: its publishes are lost."""
        self.redis = redis
        self.log = EventLog(redis, PARTITIONS)
        self.silent_log = silent_log
        self.hot = HotState(redis, PARTITIONS)
        self._taken: dict[str, tuple[RunJob, str]] = {}  # commands delivered, and not yet begun

    async def prepare(self) -> None:
        await prepare(self.redis, PARTITIONS)

    def keys(self, thread_id: str) -> PartitionKeys:
        return PartitionKeys(partition_of_thread(thread_id, PARTITIONS))

    async def begin(self, job_id: str) -> Attempt:
        """Begin a job that no other waits in front of in its thread."""
        stream = PartitionKeys(partition_of(job_id)).commands
        while job_id not in self._taken:
            reply: Any = await self.redis.xreadgroup(ORCHESTRATORS, CONSUMER, {stream: ">"})
            assert reply, f"there is no command for {job_id}"
            for entry_id, fields in reply[0][1]:
                command = decode_command(fields[b"d"])
                self._taken[command.job_id] = command, entry_id.decode()
        return await self._begin(*self._taken.pop(job_id))

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

    async def ask(self, client: Client, query: str = "hi", **more: Any) -> Attempt:
        """Post a question, which must be its thread's next, and begin its job."""
        accepted = await client.ok("POST", "/v1/jobs", json={"query": query, **more})
        return await self.begin(accepted["job_id"])

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

    async def say(self, *texts: str, silently: bool = False) -> None:
        """One token event for each text, in one append; silently: its publish is lost."""
        events = [Token(**self._head(place), content=text) for place, text in enumerate(texts, 1)]
        await self._append(events, silently=silently)
        self.text += "".join(texts)

    async def add(self, kind: type[JobEvent], **fields: Any) -> None:
        """Any event."""
        await self._append([kind(**self._head(1), **fields)])

    async def end(self, status: FinalStatus = "done", *, silently: bool = False) -> None:
        await self._append([self._done(status, 1)], status, silently=silently)

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

    async def _append(
        self,
        events: Sequence[JobEvent],
        final: FinalStatus | None = None,
        *,
        silently: bool = False,
    ) -> None:
        numbered = [NumberedEvent(event.seq, event.type, encode(event)) for event in events]
        log = self.worker.silent_log if silently else self.worker.log
        assert log is not None
        appended = await log.append_events(Append(self.lease, numbered, final))
        assert appended.code == "OK", appended
        self.seq += len(events)


def edited_scripts(folder: Path, edits: Mapping[str, tuple[str, str]]) -> Path:
    """A copy of the scripts' package in which each named script has one edit."""
    shutil.copytree(str(files("shared") / "scripts"), folder / "scripts")
    for name, (old, new) in edits.items():
        script = folder / "scripts" / f"{name}.lua"
        source = script.read_text()
        assert source.count(old) == 1, f"{name}.lua does not read like this once: {old}"
        script.write_text(source.replace(old, new))
    return folder
