"""What the attempts of a job have said so far, read back from the thread's stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from shared.codec import Record
from shared.event_log import Lease
from shared.observability import get_logger
from shared.thread_stream import HoleInStream, ThreadStream

log = get_logger()


async def records_of_job(stream: ThreadStream, lease: Lease) -> AsyncGenerator[Record]:
    """The job's events in their order, up to a hole if there is one.

    Raises LogUnavailable; ArchiveUnavailable, when Redis has let go, or lost, a part of it.
    """
    after, more = lease.first, True
    while more:
        try:
            records, more = await stream.behind(lease.thread_id, after)
        except HoleInStream as error:
            log.warning("what was said before is not whole", reason=str(error))
            return
        for record in records:
            if record.stream == lease.job_id:
                yield record
        after = records[-1].position if records else after
