"""Jobs of a user: their state, their events as a page or a stream, and their cancellation."""

from __future__ import annotations

from typing import Final

from services.api.absence import present
from services.api.authentication import Caller
from services.api.cursors import reached
from services.api.follower import Wanted
from services.api.threads import Threads
from shared.archive import Archive
from shared.codec import Record, decode_event
from shared.errors import EventsGone, NotFound
from shared.event_log import EventLog
from shared.events import MessagePosted
from shared.hot_state import HotState, Job
from shared.ids import is_job_id, partition_of
from shared.thread_stream import ThreadStream

PAGE_EVENTS_MAX: Final = 1000


class JobsOfUser:
    def __init__(
        self,
        log: EventLog,
        threads: Threads,
        hot: HotState,
        archive: Archive,
        history: ThreadStream,
    ) -> None:
        self._log, self._threads = log, threads
        self._hot, self._archive, self._history = hot, archive, history

    async def get(self, user: str, job_id: str) -> Job:
        """Raises NotFound: no such job, or not in a thread of this user's; LogUnavailable."""
        if not is_job_id(job_id):
            raise NotFound()
        job = await present(
            self._hot,
            partition_of(job_id),
            lambda: self._known(job_id),
            theirs=lambda _: True,  # it is theirs whose thread it is in
        )
        await self._threads.seen(user, job.thread_id)
        return job

    async def may_follow(self, user: str, thread_id: str) -> bool:
        """Whether the jobs of a thread are still there for the user."""
        return await self._threads.may_follow(user, thread_id)

    async def _known(self, job_id: str) -> Job | None:
        return await self._hot.job(job_id) or await self._archive.job(job_id)

    async def reached(self, user: str, job_id: str, after: int) -> Job:
        """The job, whose stream has come as far as the cursor.

        Raises NotFound, EventsGone; BadRequest for a cursor that was never given out.
        """
        job = await reached(
            self._hot, after, lambda: self.get(user, job_id), lambda job: job.last_seq
        )
        if job.is_settled and after < job.last_seq:
            raise EventsGone()
        return job

    async def cancel(self, user: str, job_id: str) -> str:
        """The job's status now; no effect after its end. Raises NotFound."""
        job = await self.get(user, job_id)
        return await self._log.request_cancel(job_id, job.thread_id) or job.status

    async def cancel_in(self, user: str, thread_id: str, job_id: str) -> str:
        """The same, of a job of one thread only. Raises NotFound."""
        if (await self.get(user, job_id)).thread_id != thread_id:
            raise NotFound()
        return await self.cancel(user, job_id)

    async def cancel_session(self, caller: Caller, thread_id: str) -> dict[str, str]:
        """Cancel what a device has asked in a thread, or what its user has from none.

        The jobs' statuses now. Raises NotFound.
        """
        await self._threads.get(caller.user, thread_id)
        return {
            job_id: await self.cancel(caller.user, job_id)
            for job_id in await self._hot.open_jobs(thread_id)
            if await self._asked_by(caller, job_id)
        }

    async def _asked_by(self, caller: Caller, job_id: str) -> bool:
        """As the event says that the job began with: it stays when Redis lost everything else."""
        job = await self._known(job_id)
        if job is None:
            return False
        records, _ = await self._history.behind(job.thread_id, job.first - 1, count=1)
        asked = decode_event(records[0].data) if records else None
        return (
            isinstance(asked, MessagePosted)
            and asked.job_id == job_id
            and (asked.user, asked.session_id) == (caller.user, caller.session_id)
        )

    async def reply_id(self, job_id: str) -> str | None:
        """The id of a job's answer."""
        job = await self._known(job_id)
        return job.reply_id if job else None

    async def failure(self, job: Job) -> Record | None:
        """The `error` event of a job that failed, unless it is kept no longer."""
        if job.status != "failed" or job.is_settled:
            return None
        last = await self.page(job, after=job.last_seq - 2, limit=2)
        return next((record for record in last if record.type == "error"), None)

    async def page(self, job: Job, *, after: int, limit: int) -> list[Record]:
        """Events behind a seq as they are now. Raises HoleInStream."""
        wanted = events_of(job.job_id, after=after)
        found: list[Record] = []
        place, last = job.first + after, after
        while len(found) < limit and last < job.last_seq:
            records, _ = await self._history.behind(job.thread_id, place, count=limit)
            if not records:
                break
            place = records[-1].position
            found += filter(wanted, records)
            last = found[-1].seq if found else last
        return found[:limit]


def events_of(job_id: str, *, after: int) -> Wanted:
    """Whether an event is one of the job's behind a seq.

    The seq k of a job stands at position ``first + k`` or later (messages posted while it runs
    stand between its events), so who starts behind ``first + after`` misses none.
    """
    return lambda record: record.stream == job_id and record.seq > after
