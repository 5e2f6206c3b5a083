"""The log, as FastStream consumes it: per partition a reader and a reclaimer.

    {hw:p}:log ── XREADGROUP > ──▶ reader ────┐
               └─ XAUTOCLAIM ────▶ reclaimer ─┴─▶ ProjectEvents, XACK ─▶ log may be trimmed

A batch is held under a lease, as a job is: while it is worked on, its entries are claimed again
every heartbeat, so that nobody takes them over merely because Postgres is slow or away. Entries
whose holder has died are idle for the length of a lease, and then the reclaimer's.

A batch that was not full is followed by a short rest, which all readers take at the same time. A
trickle of tokens then makes one transaction every so often, not one per token or per partition
(``rounds``); under load batches are full and nothing waits.

Failures
    Batch not archived    It is not acknowledged and comes again, here or elsewhere. Who cannot
                          archive it for HELD_LEASES_MAX leases keeps on trying, and renews no more.
    Reply to XACK lost    The same: the archive knows the events already.
    Read refused          It is tried again after a pause; a group that is gone is made again first
                          (``shared.group_reads``).
    Group gone meanwhile  The batch in hand is archived as any other: there is no lease to renew,
                          and nothing left to acknowledge.
    Subscriber dead       It does not come back: ``failed`` says so, and the process ends and is
                          started again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.message import RedisBatchStreamMessage
from faststream.redis.subscriber.usecases.stream_subscriber import StreamBatchSubscriber

from services.persister.patience import happens
from services.persister.project_events import ProjectEvents
from services.persister.provenance import life_of_batch, note_lives
from shared.broker_connection import broker_url, lead
from shared.deployment import prepare
from shared.errors import HeadwaterError, LogUnavailable
from shared.group_reads import group_may_be_gone, heal_group_reads, start_reading, stop_reading
from shared.keys import PERSISTERS, PartitionKeys
from shared.observability import get_logger
from shared.redis_client import Redis, broker_options, translate

BATCH_ENTRIES_MAX: Final = 1000
READ_BLOCK_MS: Final = 1000  # well below the socket's timeout
RECLAIM_POLL_MS: Final = 500
WATCH_SECONDS: Final = 0.5
STOPPED_LOOKS: Final = 2
HELD_LEASES_MAX: Final = 3  # then others may try what cannot be archived here

log = get_logger()

Message = RedisBatchStreamMessage


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a batch without heartbeat is its holder's, and who the holder is."""

    consumer: str
    seconds: float
    heartbeat_seconds: float

    @property
    def idle_ms(self) -> int:
        return round(self.seconds * 1000)


def make_broker(redis_url: str, *, drain_seconds: float) -> RedisBroker:
    """A broker that waits that long for its handlers when it is stopped.

    Of what FastStream has to say only problems are logged, and in our format: its own logger comes
    with a handler of its own.
    """
    logger = logging.getLogger(f"{__name__}.faststream")
    logger.setLevel(logging.WARNING)
    broker = RedisBroker(
        broker_url(redis_url),
        apply_types=False,
        logger=logger,
        graceful_timeout=drain_seconds,
        **broker_options(),
    )
    lead(broker, redis_url)
    return broker


class Consumer:
    """Feeds the logs of all partitions to a use case. ``trimmable`` are those with new acks."""

    def __init__(
        self,
        broker: RedisBroker,
        redis: Redis,
        project: ProjectEvents,
        *,
        partitions: int,
        lease: Lease,
    ) -> None:
        self._broker, self._redis, self._project, self._lease = broker, redis, project, lease
        self._partitions = partitions
        self._subscribers: list[StreamBatchSubscriber] = []
        self.trimmable: set[int] = set()
        for partition in range(partitions):
            self._subscribe(
                partition,
                self._read,
                max_records=BATCH_ENTRIES_MAX,
                polling_interval=READ_BLOCK_MS,
            )
            self._subscribe(
                partition,
                self._reclaim,
                min_idle_time=lease.idle_ms,
                polling_interval=RECLAIM_POLL_MS,
            )

    async def start(self) -> None:
        """Raises LogUnavailable."""
        with translate():
            client = await self._broker.connect()
        note_lives(client, self._partitions)
        heal_group_reads(client, partial(prepare, self._redis, self._partitions))
        await start_reading(self._broker)

    async def stop(self) -> None:
        """Read nothing new and wait for the batches in hand."""
        await stop_reading(self._broker, self._subscribers)

    async def failed(self) -> str:
        """Return once a subscriber has stopped by itself.

        FastStream starts a reader again whose read was refused, so one look is not enough.
        """
        looks = 0
        while looks < STOPPED_LOOKS:
            await asyncio.sleep(WATCH_SECONDS)
            looks = 0 if self.is_running else looks + 1
        return "a subscriber has stopped"

    @property
    def is_running(self) -> bool:
        return all(
            subscriber.running and any(not task.done() for task in subscriber.tasks)
            for subscriber in self._subscribers
        )

    def _subscribe(
        self,
        partition: int,
        handle: Callable[[int, Message], Awaitable[None]],
        **source: Any,
    ) -> None:
        stream = _Stream(
            PartitionKeys(partition).log,
            group=PERSISTERS,
            consumer=self._lease.consumer,
            batch=True,
            **source,
        )
        subscriber = cast(
            "StreamBatchSubscriber",
            self._broker.subscriber(
                stream=stream, parser=self._parse, decoder=_keep, ack_policy=AckPolicy.MANUAL
            ),
        )

        async def take(message: Message) -> None:
            try:
                await handle(partition, message)
            except HeadwaterError as error:
                log.warning("batch stays pending", partition=partition, reason=str(error))

        subscriber(take)
        self._subscribers.append(subscriber)

    async def _read(self, partition: int, message: Message) -> None:
        await self._archive(partition, message)
        if len(message.raw_message["message_ids"]) < BATCH_ENTRIES_MAX:
            await self._project.rest()

    async def _reclaim(self, partition: int, message: Message) -> None:
        log.info(
            "batch taken over", partition=partition, count=len(message.raw_message["message_ids"])
        )
        await self._archive(partition, message)

    async def _archive(self, partition: int, message: Message) -> None:
        ids = message.raw_message["message_ids"]
        async with self._held(message.raw_message["channel"], ids):
            entries = list(zip(ids, message.raw_message["data"], strict=True))
            await self._project(partition, entries, life_of_batch())
        self.trimmable.add(partition)

    @asynccontextmanager
    async def _held(self, stream: str, ids: Sequence[bytes]) -> AsyncGenerator[None]:
        """Renew the lease of the entries while the block lasts, HELD_LEASES_MAX times at most."""
        released = asyncio.Event()
        heartbeat = asyncio.create_task(self._renew(stream, ids, released))
        try:
            yield
        finally:
            released.set()
            await heartbeat

    async def _renew(self, stream: str, ids: Sequence[bytes], released: asyncio.Event) -> None:
        # Ended by an event: a cancellation may get lost in redis-py, whose writes go through
        # asyncio.wait_for, which in Python 3.11 swallows one that comes as the write ends.
        ends = time.monotonic() + HELD_LEASES_MAX * self._lease.seconds
        while not await happens(released, within=self._lease.heartbeat_seconds):
            if time.monotonic() > ends:
                return
            try:
                with translate(), group_may_be_gone():
                    await self._redis.xclaim(
                        stream, PERSISTERS, self._lease.consumer, 0, list(ids), justid=True
                    )
            except LogUnavailable as error:
                log.warning("lease not renewed", stream=stream, reason=str(error))

    async def _parse(self, raw: Any, _original: Any) -> Message:
        """Keep the entries as they are: FastStream's own formats would look for theirs in them."""
        last = raw["message_ids"][-1].decode()
        return Message(
            raw_message=raw,
            body=b"",
            message_id=last,
            correlation_id=last,
            consumer=cast("Any", self._redis),
            group=PERSISTERS,
        )


class _Stream(StreamSub):
    """FastStream asks for its prefix at every read, and would be given a deep copy."""

    def add_prefix(self, prefix: str) -> StreamSub:
        assert not prefix
        return self


async def _keep(message: Message, _original: Any) -> Message:
    return message
