"""The log on a real server, as tests drive it: short calls, deliveries by hand, an ear on channels.

`RepeatingRedis` sends every script twice while `repeats` is set: what the client library does when
the reply of the first was lost, without having to lose one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from shared.codec import Record, decode_command, encode, records_from_publish
from shared.commands import OnBusy, RunJob
from shared.continuity import Continuity
from shared.deployment import prepare
from shared.event_log import Append, Begun, EventLog, Lease, NumberedEvent
from shared.events import Done, ErrorRaised, FinalStatus, ThreadCreated, Token
from shared.hot_state import HotState
from shared.ids import new_job_id, new_message_id, new_thread_id, new_trace_id, partition_of_thread
from shared.keys import ORCHESTRATORS, PERSISTERS, PartitionKeys
from shared.redis_client import Redis, connect
from shared.retention import Retention
from shared.thread_log import ThreadLog
from shared.times import utc_now

IDLE_TTL_SECONDS = 3600  # longer than any test: what has a TTL is deleted by hand
QUEUE_MAX = 2
ATTEMPTS_MAX = 2
HEARD_SECONDS_MAX = 5.0
AT = "2026-01-02T03:04:05.678Z"
BARRIER = "{hw:0}:barrier"


class RepeatingRedis(Redis):
    repeats = False

    @classmethod
    def of_pool(cls, pool: Any) -> RepeatingRedis:
        """A client that owns the pool."""
        return cast("RepeatingRedis", cls.from_pool(pool))

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if self.repeats and args[0] in ("EVAL", "EVALSHA"):
            await super().execute_command(*args, **options)
        return await super().execute_command(*args, **options)


def connect_repeating(url: str) -> RepeatingRedis:
    return RepeatingRedis.of_pool(connect(url).connection_pool)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A command as a consumer got it."""

    entry_id: str
    command: RunJob
    consumer: str


class LogServer:
    """The parts of `shared` that write the log, on one client."""

    def __init__(self, redis: Redis, partitions: int = 1) -> None:
        self.redis: Any = redis  # the driver's types leave open whether replies are awaited
        self.partitions = partitions
        self.log = EventLog(redis, partitions)
        self.threads = ThreadLog(redis, partitions, idle_ttl_seconds=IDLE_TTL_SECONDS)
        self.retention = Retention(redis, idle_ttl_seconds=IDLE_TTL_SECONDS)
        self.hot = HotState(redis, partitions)

    async def prepare(self) -> None:
        """Groups in place, and open for writing: there is no archive that knows more."""
        await prepare(self.redis, self.partitions)
        await Continuity(self.redis, self.partitions).trust()

    def keys(self, thread_id: str) -> PartitionKeys:
        return PartitionKeys(partition_of_thread(thread_id, self.partitions))

    async def thread(self, owner: str = "alice") -> str:
        """A new thread."""
        created = ThreadCreated(thread_id=new_thread_id(), at=AT, owner=owner)
        await self.threads.create_thread(created)
        return created.thread_id

    def command(self, thread_id: str, *, user: str = "alice", content: str = "hi") -> RunJob:
        partition = partition_of_thread(thread_id, self.partitions)
        return RunJob(
            job_id=new_job_id(partition),
            thread_id=thread_id,
            message_id=new_message_id(partition),
            reply_id=new_message_id(partition),
            user=user,
            agent="default",
            content=content,
            trace_id=new_trace_id(),
            at=AT,
        )

    async def post(
        self,
        command: RunJob,
        *,
        on_busy: OnBusy = "enqueue",
        create: ThreadCreated | None = None,
    ) -> str:
        """Accept a message; the job that answers it."""
        accepted = await self.log.accept_job(
            command,
            on_busy=on_busy,
            queue_max=QUEUE_MAX,
            create=create,
        )
        return accepted.job_id

    async def posted(self, thread_id: str, *, on_busy: OnBusy = "enqueue") -> RunJob:
        """A new message, accepted."""
        command = self.command(thread_id)
        await self.post(command, on_busy=on_busy)
        return command

    async def deliver(self, partition: int = 0, consumer: str = "w1") -> Delivery | None:
        """The next new command of a partition, as XREADGROUP hands it out."""
        stream = PartitionKeys(partition).commands
        reply = await self.redis.xreadgroup(ORCHESTRATORS, consumer, {stream: ">"}, count=1)
        entries = _entries(reply)
        return next((_delivery(entry_id, row, consumer) for entry_id, row in entries), None)

    async def claim(self, delivery: Delivery, consumer: str) -> Delivery | None:
        """The same command for another consumer, as if its lease had run out."""
        keys = self.keys(delivery.command.thread_id)
        entries = await self.redis.xclaim(
            keys.commands, ORCHESTRATORS, consumer, 0, [delivery.entry_id]
        )
        return next((_delivery(entry_id, row, consumer) for entry_id, row in entries), None)

    async def claim_all(self, partition: int, consumer: str) -> list[Delivery]:
        stream = PartitionKeys(partition).commands
        reply: Any = await self.redis.xautoclaim(stream, ORCHESTRATORS, consumer, 0, "0-0")
        return [_delivery(entry_id, row, consumer) for entry_id, row in reply[1]]

    async def begin(self, delivery: Delivery, *, attempts_max: int = ATTEMPTS_MAX) -> Begun:
        return await self.log.begin_attempt(
            delivery.command,
            entry_id=delivery.entry_id,
            consumer=delivery.consumer,
            attempts_max=attempts_max,
            model="m",
        )

    async def running(self, thread_id: str | None = None) -> tuple[Delivery, Lease]:
        """A posted, delivered and begun job."""
        await self.posted(thread_id or await self.thread())
        delivery = await self.deliver()
        assert delivery is not None
        begun = await self.begin(delivery)
        assert begun.lease is not None
        return delivery, begun.lease

    async def take_over(self, delivery: Delivery, *, attempts_max: int = ATTEMPTS_MAX) -> Begun:
        """Another worker claims the command and begins."""
        claimed = await self.claim(delivery, "w2")
        assert claimed is not None
        return await self.begin(claimed, attempts_max=attempts_max)

    async def append(
        self, lease: Lease, *events: NumberedEvent, final: FinalStatus | None = None
    ) -> str:
        return (await self.log.append_events(Append(lease, events, final))).code

    async def finish(self, lease: Lease, seq: int, status: FinalStatus = "done") -> str:
        return await self.append(lease, done(lease, seq, status), final=status)

    async def records(self, thread_id: str) -> list[Record]:
        return await self.hot.records(thread_id, after=0)

    async def history(self, thread_id: str) -> list[str]:
        """The types of a thread's events."""
        return [record.type for record in await self.records(thread_id)]

    async def read_log(self, partition: int, consumer: str, count: int) -> list[bytes]:
        """Ids of the next entries, as a persister reads them."""
        stream = PartitionKeys(partition).log
        reply = await self.redis.xreadgroup(PERSISTERS, consumer, {stream: ">"}, count=count)
        return [entry_id for entry_id, _ in _entries(reply)]

    async def take_over_log(self, partition: int, consumer: str, count: int) -> list[bytes]:
        """Ids of what others have read and not acknowledged."""
        stream = PartitionKeys(partition).log
        reply: Any = await self.redis.xautoclaim(stream, PERSISTERS, consumer, 0, "0-0", count)
        return [entry_id for entry_id, _ in reply[1]]

    async def acknowledge(self, partition: int, entry_ids: Iterable[bytes]) -> None:
        ids = list(entry_ids)
        if ids:
            await self.redis.xack(PartitionKeys(partition).log, PERSISTERS, *ids)


class ChannelEar:
    """What is published on some threads' channels, and who is told to cancel."""

    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis = redis
        self._pubsub = redis.pubsub()
        self._cancels = [PartitionKeys(number).cancels for number in range(partitions)]
        self._threads: dict[str, str] = {}
        self._barrier = 0
        self.heard: dict[str, list[Record]] = {}
        self.woken: set[str] = set()

    async def listen(self, thread_channels: dict[str, str]) -> None:
        """Subscribe to channels, given by thread id, and begin with nothing heard."""
        self._threads = {channel: thread_id for thread_id, channel in thread_channels.items()}
        await self._pubsub.ssubscribe(BARRIER, *self._cancels, *self._threads)
        await self.forget()

    async def forget(self) -> None:
        await self.catch_up()
        self.heard = {thread_id: [] for thread_id in self._threads.values()}
        self.woken = set()

    async def catch_up(self) -> None:
        """Hear everything published before this call: a barrier of our own marks the place."""
        self._barrier += 1
        await self._redis.execute_command("SPUBLISH", BARRIER, self._barrier)
        while True:
            message = await self._pubsub.get_message(timeout=HEARD_SECONDS_MAX)
            assert message is not None, "what was published does not arrive"
            if message["type"] != "smessage":
                continue
            channel, data = message["channel"].decode(), message["data"]
            if channel != BARRIER:
                self._take(channel, data)
            elif int(data) == self._barrier:
                return

    def _take(self, channel: str, data: bytes) -> None:
        if channel in self._cancels:
            self.woken.add(decode_command(data).job_id)
        elif thread_id := self._threads.get(channel):
            self.heard.setdefault(thread_id, []).extend(records_from_publish(data))

    async def close(self) -> None:
        await self._pubsub.aclose()


def token(lease: Lease, seq: int, content: str = "x") -> NumberedEvent:
    event = Token(
        job_id=lease.job_id, seq=seq, attempt=lease.attempt, at=AT, content=content, deltas=1
    )
    return NumberedEvent(seq, event.type, encode(event))


def error(lease: Lease, seq: int) -> NumberedEvent:
    event = ErrorRaised(
        job_id=lease.job_id,
        seq=seq,
        attempt=lease.attempt,
        at=AT,
        code="attempts_exhausted",
        message="given up",
        retryable=True,
    )
    return NumberedEvent(seq, event.type, encode(event))


def done(lease: Lease, seq: int, status: FinalStatus = "done", content: str = "") -> NumberedEvent:
    event = Done(
        job_id=lease.job_id,
        seq=seq,
        attempt=lease.attempt,
        at=utc_now(),
        status=status,
        content=content,
        message_id="msg",
        latency_ms=1,
    )
    return NumberedEvent(seq, event.type, encode(event))


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of the one stream of an XREADGROUP reply, in RESP2 or RESP3."""
    if not reply:
        return []
    return next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]


def _delivery(entry_id: bytes, row: dict[bytes, bytes], consumer: str) -> Delivery:
    return Delivery(entry_id.decode(), decode_command(row[b"d"]), consumer)
