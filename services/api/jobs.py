"""Jobs of a user: their state, their events as a page or a stream, and their cancellation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from services.api.feed import Feed
from services.api.follower import Follower
from services.api.problems import BadRequest
from shared.archive import Archive
from shared.codec import Record
from shared.errors import NotFound
from shared.event_log import EventLog
from shared.hot_state import HotState, Job
from shared.ids import is_job_id

PAGE_EVENTS_MAX: Final = 1000


class JobsOfUser:
    def __init__(self, log: EventLog, hot: HotState, archive: Archive, feed: Feed) -> None:
        self._log, self._hot, self._archive, self._feed = log, hot, archive, feed

    async def get(self, user: str, job_id: str) -> Job:
        """Raises NotFound: no such job, or not this user's."""
        if not is_job_id(job_id):
            raise NotFound()
        job = await self._hot.job(job_id) or await self._archive.job(job_id)
        if job is None or job.owner != user:
            raise NotFound()
        return job

    async def cancel(self, user: str, job_id: str) -> str:
        """The job's status now; no effect after its end. Raises NotFound."""
        job = await self.get(user, job_id)
        return await self._log.request_cancel(job_id, job.thread_id) or job.status

    async def failure(self, job: Job) -> Record | None:
        """The `error` event of a job that failed."""
        if job.status != "failed":
            return None
        place = job.first + job.last_seq - 2
        follower = self._feed.replay(job.thread_id, after=place, top=job.first + job.last_seq)
        async for records in of_job(job, follower, after=job.last_seq - 2):
            for record in records:
                if record.type == "error":
                    return record
        return None

    async def page(self, job: Job, *, after: int, limit: int) -> list[Record]:
        """Events behind a seq as they are now. Raises BadRequest."""
        check_cursor(job, after)
        found: list[Record] = []
        if after >= job.last_seq:
            return found
        follower = self._feed.replay(
            job.thread_id, after=job.first + after, top=job.first + job.last_seq
        )
        async for records in of_job(job, follower, after=after):
            found += records
            if len(found) >= limit or found[-1].seq >= job.last_seq:
                break
        return found[:limit]


def check_cursor(job: Job, after: int) -> None:
    """Raises BadRequest for a cursor that the stream has never given out."""
    if after > job.last_seq:
        raise BadRequest("cursor_ahead", f"The stream has only {job.last_seq} events so far.")


async def of_job(job: Job, follower: Follower, *, after: int) -> AsyncIterator[list[Record]]:
    """The job's records behind a seq, until its `done`.

    The seq k of a job stands at position ``first + k`` or later (messages posted while it runs
    stand between its events), so a follower that starts at ``first + after`` misses none. An empty
    list passes the follower's wish for a ping on; the end comes early when the gateway drains.
    """
    while True:
        records = await follower.next()
        if not records:
            if follower.draining:
                return
            yield records
            continue
        mine = [r for r in records if r.stream == job.job_id and r.seq > after]
        if mine:
            yield mine
            if mine[-1].is_final:
                return
