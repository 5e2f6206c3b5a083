"""Asks the question of a job that failed again, as a new job in the same thread.

The failed job stays as it ended: its ``done`` is its last event. The new job is another message of
the same user, whose metadata name the job it repeats.

    letter ─▶ job, message.posted ──────────▶ accept_job: new message, new job, letter gone
              Redis, or else Postgres               │ the thread has left Redis
                                              load ─┘ from Postgres, and again

Failures
    Retried twice, or by two   The script takes the letter away or refuses: LetterGone.
    Nothing to repeat          Unrepeatable: the job is not known, or its thread is deleted.
    Stores away                LogUnavailable, ArchiveUnavailable: the letter stays.
"""

from __future__ import annotations

from typing import Final

from shared.archive import Archive
from shared.codec import decode_event
from shared.commands import RunJob
from shared.dead_letters import Letter
from shared.errors import HeadwaterError, LogUnavailable, NotFound
from shared.event_log import Accepted, EventLog
from shared.events import MessagePosted
from shared.hot_state import HotState
from shared.ids import is_job_id, new_job_id, new_message_id, new_trace_id, partition_of
from shared.log_protocol import ThreadNotLoaded
from shared.redis_client import Redis
from shared.thread_log import ThreadLog
from shared.times import utc_now

REPEATS: Final = "repeats"  # in a message's metadata: the job whose question it asks again
LOADS_MAX: Final = 3  # of the thread in one call: it may expire again in between


class Unrepeatable(HeadwaterError):
    """There is no question that could be asked again."""


class JobRepeats:
    """Stateless: any number may work on the same stores."""

    def __init__(
        self,
        redis: Redis,
        archive: Archive,
        *,
        partitions: int,
        queue_max: int,
        idle_ttl_seconds: int,
    ) -> None:
        self._log, self._hot = EventLog(redis, partitions), HotState(redis, partitions)
        self._threads = ThreadLog(redis, partitions, idle_ttl_seconds=idle_ttl_seconds)
        self._archive, self._queue_max = archive, queue_max

    async def repeat(self, letter: Letter) -> Accepted:
        """Ask again, and take the letter away with it.

        Raises Unrepeatable, LetterGone, QueueFull, LogUnavailable, ArchiveUnavailable.
        """
        command = _repeated(await self._question(letter))
        for _ in range(LOADS_MAX):
            try:
                return await self._log.accept_job(
                    command,
                    on_busy="enqueue",
                    queue_max=self._queue_max,
                    letter=letter.id.entry,
                )
            except ThreadNotLoaded:
                await self._load(command.thread_id)
            except NotFound:
                raise Unrepeatable("its thread is deleted") from None
        raise LogUnavailable("The thread leaves Redis faster than it is loaded.")

    async def _question(self, letter: Letter) -> MessagePosted:
        job_id = letter.job_id or ""
        if not is_job_id(job_id) or partition_of(job_id) != letter.id.partition:
            raise Unrepeatable("it names no job of its partition")
        job = await self._hot.job(job_id) or await self._archive.job(job_id)
        if job is None:
            raise Unrepeatable("neither Redis nor the archive knows its job")
        for store in (self._hot, self._archive):
            for record in await store.records(job.thread_id, after=job.first - 1, count=1):
                event = decode_event(record.data)
                if isinstance(event, MessagePosted) and event.job_id == job_id:
                    return event
        raise Unrepeatable("neither Redis nor the archive has its question")

    async def _load(self, thread_id: str) -> None:
        thread = await self._archive.thread(thread_id)
        if thread is None:
            raise Unrepeatable("neither Redis nor the archive knows its thread")
        try:
            await self._threads.load(thread)
        except NotFound:
            raise Unrepeatable("its thread is deleted") from None


def _repeated(posted: MessagePosted) -> RunJob:
    partition = partition_of(posted.job_id)
    return RunJob(
        job_id=new_job_id(partition),
        thread_id=posted.thread_id,
        message_id=new_message_id(partition),
        reply_id=new_message_id(partition),
        user=posted.user,
        agent=posted.agent,
        content=posted.content,
        metadata={**posted.metadata, REPEATS: posted.job_id},
        trace_id=new_trace_id(),
        session_id=posted.session_id,
        attachments=posted.attachments,
        at=utc_now(),
    )
