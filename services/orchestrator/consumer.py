"""The command stream, as FastStream consumes it: per partition a reader and a reclaimer.

    {hw:p}:commands ── XREADGROUP > ──▶ reader ────┐
                    └─ XAUTOCLAIM ────▶ reclaimer ─┴─▶ decode ─▶ Jobs.run (a task of its own)

The reader takes new entries, the reclaimer those whose lease ran out. Neither acknowledges: the
script that appends ``done`` does. A subscriber hands its entry to a task and reads on; how many
tasks there may be is decided before the read (``admission``).

Failures
    Undecodable entry     It moves to the dead-letter stream, with the reason.
    Read error            The connection retries by itself; FastStream's own pause is 5 s long.
    Read refused          It is tried again after a pause, in which it holds no slot. A group that
                          is gone is made again first (``shared.group_reads``).
    Subscriber dead       It does not come back, and ``is_running`` says so: the process ends and is
                          started again.
    Leaving               A read that is cut off may still have been given an entry: ``give_back``.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, Final, cast

from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.message import RedisStreamMessage
from faststream.redis.subscriber.usecases.stream_subscriber import StreamSubscriber

from services.orchestrator.admission import Slots, reader_name
from services.orchestrator.run_job import Jobs
from shared.broker_connection import broker_url, lead
from shared.codec import decode_command
from shared.commands import RunJob
from shared.dead_letters import DeadLetters
from shared.deployment import prepare
from shared.errors import CodecError, HeadwaterError, UnknownJob
from shared.event_log import HAND_OVER_IDLE_MS
from shared.group_reads import group_may_be_gone, heal_group_reads, start_reading, stop_reading
from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.observability import get_logger
from shared.redis_client import Redis, broker_options, translate

READ_BLOCK_MS: Final = 500
RECLAIM_POLL_MS: Final = 250
GIVE_BACK_ENTRIES_MAX: Final = 1000  # per partition; more than a worker ever holds

log = get_logger()

Fields = dict[bytes, bytes]


def make_broker(redis_url: str) -> RedisBroker:
    """A broker of which only problems are logged, and in our format."""
    logger = logging.getLogger(f"{__name__}.faststream")
    logger.setLevel(logging.WARNING)
    url = broker_url(redis_url)
    broker = RedisBroker(url, apply_types=False, logger=logger, **broker_options())
    lead(broker, redis_url)
    return broker


class Consumer:
    """Start it, and jobs run, each in a task of ``tasks``, until ``stop_reading``.

    ``tasks`` says of each task which entry of which stream it runs.
    """

    def __init__(
        self,
        broker: RedisBroker,
        redis: Redis,
        jobs: Jobs,
        *,
        name: str,
        partitions: int,
        slots: Slots,
        lease_seconds: float,
    ) -> None:
        self._broker, self._redis, self._jobs = broker, redis, jobs
        self._dead_letters = DeadLetters(redis)
        self._name, self._slots = name, slots
        self._partitions = [PartitionKeys(partition) for partition in range(partitions)]
        self._subscribers: list[StreamSubscriber] = []
        self.tasks: dict[asyncio.Task[None], tuple[str, str]] = {}
        idle_ms = round(lease_seconds * 1000)
        for keys in self._partitions:
            self._subscribe(keys, max_records=1, polling_interval=READ_BLOCK_MS)
            self._subscribe(keys, min_idle_time=idle_ms, polling_interval=RECLAIM_POLL_MS)

    async def start(self) -> None:
        """Raises LogUnavailable."""
        with translate():
            client = await self._broker.connect()
        self._slots.guard(client)
        heal_group_reads(client, partial(prepare, self._redis, len(self._partitions)))
        await start_reading(self._broker)

    @property
    def is_running(self) -> bool:
        """Whether every partition is read: false for good once a subscriber has stopped itself."""
        return all(
            subscriber.running and any(not task.done() for task in subscriber.tasks)
            for subscriber in self._subscribers
        )

    async def stop_reading(self) -> None:
        with translate():
            await stop_reading(self._broker, self._subscribers)

    async def give_back(self) -> None:
        """Let the others have, at once, what was delivered here and runs in no task.

        Call it when nothing is read any more. Raises LogUnavailable.
        """
        for keys in self._partitions:
            with translate(), group_may_be_gone():
                await self._give_back(keys.commands)

    async def _give_back(self, stream: str) -> None:
        redis = cast("Any", self._redis)
        count = GIVE_BACK_ENTRIES_MAX
        pending = await redis.xpending_range(
            stream, ORCHESTRATORS, "-", "+", count, consumername=self._name
        )
        running = {entry_id for name, entry_id in self.tasks.values() if name == stream}
        ids = [
            entry["message_id"]
            for entry in pending
            if entry["time_since_delivered"] < HAND_OVER_IDLE_MS  # else it has been given
            and entry["message_id"].decode() not in running
        ]
        if ids:
            await redis.xclaim(
                stream, ORCHESTRATORS, self._name, 0, ids, idle=HAND_OVER_IDLE_MS, justid=True
            )

    def _subscribe(self, keys: PartitionKeys, **source: Any) -> None:
        stream = StreamSub(keys.commands, group=ORCHESTRATORS, consumer=self._name, **source)
        subscriber = self._broker.subscriber(
            stream=stream, parser=_parse, decoder=_keep, ack_policy=AckPolicy.MANUAL
        )
        reader = reader_name(keys.commands, reclaims=stream.min_idle_time is not None)

        async def take(message: RedisStreamMessage) -> None:
            self._slots.to_job(reader)
            task = asyncio.create_task(self._run(keys, message))
            self.tasks[task] = (keys.commands, message.message_id)
            task.add_done_callback(self.tasks.pop)

        subscriber(take)
        self._subscribers.append(subscriber)

    async def _run(self, keys: PartitionKeys, message: RedisStreamMessage) -> None:
        """Run one entry and give its slot back, whatever happens."""
        entry_id = message.message_id
        try:
            with group_may_be_gone():
                await self._run_or_bury(keys, entry_id, message.raw_message["data"])
        except HeadwaterError as error:
            log.warning("job not run, its entry stays pending", entry=entry_id, reason=str(error))
        except Exception:
            log.exception("job crashed, its entry stays pending", entry=entry_id)
        finally:
            self._slots.release()

    async def _run_or_bury(self, keys: PartitionKeys, entry_id: str, fields: Fields) -> None:
        try:
            command = decode_command(fields.get(b"d", b""))
            if not isinstance(command, RunJob):
                raise CodecError(f"{type(command).__name__} does not belong in this stream")
            await self._jobs.run(command, entry_id)
        except (CodecError, UnknownJob) as error:
            log.warning("poison command", entry=entry_id, reason=str(error))
            await self._dead_letters.move_command(keys, entry_id, str(error))


async def _parse(raw: Any, _original: Any) -> RedisStreamMessage:
    """Keep the entry as it is: FastStream's own formats would look for theirs in it."""
    entry_id = raw["message_ids"][0].decode()
    return RedisStreamMessage(
        raw_message=raw,
        body=b"",
        message_id=entry_id,
        correlation_id=entry_id,
        consumer=cast("Any", None),  # only FastStream's own acknowledgement would need it
        group=ORCHESTRATORS,
    )


async def _keep(message: RedisStreamMessage, _original: Any) -> RedisStreamMessage:
    return message
