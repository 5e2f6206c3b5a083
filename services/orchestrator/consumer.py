"""The command stream, as FastStream consumes it: per partition a reader and a reclaimer.

    {hw:p}:commands ── XREADGROUP > ──▶ reader ────┐
                    └─ XAUTOCLAIM ────▶ reclaimer ─┴─▶ decode ─▶ Jobs.run (a task of its own)

The reader takes new entries, the reclaimer those whose lease ran out. Neither acknowledges: the
script that appends ``done`` does. A subscriber hands its entry to a task and reads on; how many
tasks there may be is decided before the read (``admission``).

Failures
    Undecodable entry     It moves to the dead-letter stream, with the reason.
    Read error            The connection retries by itself; FastStream's own pause is 5 s long.
    Group gone (NOGROUP)  FastStream stops that subscriber for good: ``failed()`` says so, and the
                          process ends and is started again, which makes the group anew.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from faststream import AckPolicy
from faststream.redis import RedisBroker, RedisStreamMessage, StreamSub

from services.orchestrator.admission import Slots
from services.orchestrator.run_job import Jobs
from shared.codec import decode_command
from shared.commands import RunJob
from shared.dead_letters import DeadLetters
from shared.errors import CodecError, HeadwaterError, UnknownJob
from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.observability import get_logger
from shared.redis_client import broker_options

READ_BLOCK_MS: Final = 1000
RECLAIM_POLL_MS: Final = 250
WATCH_SECONDS: Final = 0.5

log = get_logger()


class Consumer:
    """Start it, and jobs run; ``drain`` stops reading; ``tasks`` are the jobs under way."""

    def __init__(
        self,
        redis_url: str,
        *,
        partitions: int,
        consumer: str,
        lease_seconds: float,
        slots: Slots,
        jobs: Jobs,
        dead_letters: DeadLetters,
    ) -> None:
        self._broker = RedisBroker(
            redis_url,
            logger=logging.getLogger("headwater.broker"),
            log_level=logging.DEBUG,  # of its two lines per message; its errors stay errors
            apply_types=False,
            **broker_options(),
        )
        self._slots, self._jobs, self._dead_letters = slots, jobs, dead_letters
        self.tasks: set[asyncio.Task[None]] = set()
        for partition in range(partitions):
            stream = PartitionKeys(partition).commands
            common: dict[str, Any] = {"group": ORCHESTRATORS, "consumer": consumer}
            reader = StreamSub(stream, max_records=1, polling_interval=READ_BLOCK_MS, **common)
            reclaimer = StreamSub(
                stream,
                min_idle_time=round(lease_seconds * 1000),
                polling_interval=RECLAIM_POLL_MS,
                **common,
            )
            for source in (reader, reclaimer):
                self._subscribe(source, PartitionKeys(partition))

    async def start(self) -> None:
        self._slots.guard(await self._broker.connect())
        await self._broker.start()

    @property
    def is_running(self) -> bool:
        return all(
            subscriber.running and any(not task.done() for task in subscriber.tasks)
            for subscriber in self._broker.subscribers
        )

    async def failed(self) -> str:
        """Return once a subscriber has stopped by itself."""
        while self.is_running:
            await asyncio.sleep(WATCH_SECONDS)
        return "a subscriber has stopped"

    async def stop_reading(self) -> None:
        self._slots.close()
        await self._broker.stop()

    def _subscribe(self, source: StreamSub, keys: PartitionKeys) -> None:
        subscriber = self._broker.subscriber(
            stream=source, parser=_parse, decoder=_raw_fields, ack_policy=AckPolicy.MANUAL
        )

        async def take(entry: tuple[str, dict[bytes, bytes]]) -> None:
            task = asyncio.create_task(self._run(keys, *entry))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        subscriber(take)

    async def _run(self, keys: PartitionKeys, entry_id: str, fields: dict[bytes, bytes]) -> None:
        """Run one entry and give its slot back, whatever happens."""
        try:
            command = decode_command(fields.get(b"d", b""))
            if not isinstance(command, RunJob):
                raise CodecError(f"{type(command).__name__} does not belong in this stream")
            await self._jobs.run(command, entry_id)
        except (CodecError, UnknownJob) as error:
            log.warning("poison command", entry=entry_id, reason=str(error))
            await self._dead_letters.move_command(keys, entry_id, str(error))
        except HeadwaterError as error:
            log.warning("job not run, its entry stays pending", entry=entry_id, reason=str(error))
        except Exception:  # noqa: BLE001 -- the boundary: nothing is acked, the entry is taken over
            log.exception("job crashed, its entry stays pending", entry=entry_id)
        finally:
            self._slots.release()


async def _parse(raw: Any, _original: Any) -> RedisStreamMessage:
    """Keep the entry as it is: FastStream's own formats would look for theirs in it."""
    entry_id = raw["message_ids"][0].decode()
    return RedisStreamMessage(
        raw_message=raw,
        body=b"",
        message_id=entry_id,
        correlation_id=entry_id,
        consumer=None,  # pyright: ignore[reportArgumentType] -- only FastStream's own ack asks
        group=ORCHESTRATORS,
    )


async def _raw_fields(message: RedisStreamMessage, _original: Any) -> tuple[str, dict[Any, Any]]:
    return message.message_id, message.raw_message["data"]
