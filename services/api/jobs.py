"""Jobs of a user: their state, their events as a page or a stream, and their cancellation."""

from __future__ import annotations

from typing import Final

from services.api.absence import present
from services.api.cursors import reached
from services.api.follower import Wanted
from shared.archive import Archive
from shared.codec import Record
from shared.errors import NotFound
from shared.event_log import EventLog
from shared.hot_state import HotState, Job
from shared.ids import is_job_id, partition_of
from shared.thread_stream import ThreadStream

PAGE_EVENTS_MAX: Final = 1000


class JobsOfUser:
    def __init__(
        self, log: EventLog, hot: HotState, archive: Archive, history: ThreadStream
    ) -> None:
        self._log, self._hot, self._archive, self._history = log, hot, archive, history

    async def get(self, user: str, job_id: str) -> Job:
        """Raises NotFound: no such job, or not this user's; LogUnavailable."""
        if not is_job_id(job_id):
            raise NotFound()
        return await present(
            self._hot,
            partition_of(job_id),
            lambda: self._known(job_id),
            theirs=lambda job: job.owner == user,
        )

    async def _known(self, job_id: str) -> Job | None:
        return await self._hot.job(job_id) or await self._archive.job(job_id)

    async def reached(self, user: str, job_id: str, after: int) -> Job:
        """The job, whose stream has come as far as the cursor.

        Raises NotFound; BadRequest for a cursor that was never given out.
        """
        return await reached(
            self._hot, after, lambda: self.get(user, job_id), lambda job: job.last_seq
        )

    async def cancel(self, user: str, job_id: str) -> str:
        """The job's status now; no effect after its end. Raises NotFound."""
        job = await self.get(user, job_id)
        return await self._log.request_cancel(job_id, job.thread_id) or job.status

    async def failure(self, job: Job) -> Record | None:
        """The `error` event of a job that failed."""
        if job.status != "failed":
            return None
        last = await self.page(job, after=job.last_seq - 2, limit=2)
        return next((record for record in last if record.type == "error"), None)

    async def page(self, job: Job, *, after: int, limit: int) -> list[Record]:
        """Events behind a seq as they are now. Raises HoleInStream."""
        wanted = events_of(job, after=after)
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


def events_of(job: Job, *, after: int) -> Wanted:
    """Whether an event is one of the job's behind a seq.

    The seq k of a job stands at position ``first + k`` or later (messages posted while it runs
    stand between its events), so who starts behind ``first + after`` misses none.
    """
    job_id = job.job_id
    return lambda record: record.stream == job_id and record.seq > after
