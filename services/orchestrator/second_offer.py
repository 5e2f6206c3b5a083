"""A job that Redis has lost altogether, offered again by the worker that still has its command.

An accepted job is in Redis first and in the archive a moment later. When Redis loses it in between,
the command in the hands of its worker is all that is left:

    append ─▶ UNKNOWN ─▶ archive knows the job? ─┬─ yes ─▶ nothing: it is over, or is put back
                                                 └─ no ──▶ accept_job, same ids ─▶ attempt 1

Failures
    Somebody was faster   accept_job finds the job's hash and changes nothing.
    The thread is lost    It is loaded from the archive, or made anew under its old id.
    A store is away       It is tried again for OFFER_SECONDS_MAX; then the job is lost, and the log
                          says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from shared.archive import Archive
from shared.commands import RunJob
from shared.errors import ArchiveUnavailable, LogUnavailable, Refused
from shared.event_log import EventLog
from shared.events import ThreadCreated
from shared.log_protocol import ThreadNotLoaded
from shared.observability import get_logger
from shared.thread_log import ThreadLog

OFFER_SECONDS_MAX: Final = 60.0
RETRY_SECONDS: Final = 0.5

log = get_logger()


@dataclass(frozen=True, slots=True)
class SecondOffer:
    event_log: EventLog
    threads: ThreadLog
    archive: Archive
    queue_max: int  # messages that may wait in the thread

    async def make(self, command: RunJob) -> None:
        """Let the job be delivered anew, unless Redis or the archive knows it. Raises nothing."""
        try:
            async with asyncio.timeout(OFFER_SECONDS_MAX):
                while True:
                    if await self._made(command):
                        return
                    await asyncio.sleep(RETRY_SECONDS)
        except Refused as error:  # the thread was deleted, or is full
            log.warning("lost job not offered again", reason=str(error))
        except TimeoutError:
            log.error("job lost", seconds=OFFER_SECONDS_MAX)

    async def _made(self, command: RunJob) -> bool:
        try:
            if await self.archive.job(command.job_id) is None:
                await self._accept(command)
                log.warning("lost job offered again")
        except (ArchiveUnavailable, LogUnavailable, ThreadNotLoaded) as error:
            log.warning("lost job waits for the stores", reason=str(error))
            return False
        return True

    async def _accept(self, command: RunJob) -> None:
        thread = await self.archive.thread(command.thread_id)
        create = None
        if thread is not None:
            await self.threads.load(thread)  # changes nothing if Redis has it
        else:
            create = ThreadCreated(thread_id=command.thread_id, at=command.at, owner=command.user)
        await self.event_log.accept_job(
            command, on_busy="enqueue", queue_max=self.queue_max, create=create
        )
