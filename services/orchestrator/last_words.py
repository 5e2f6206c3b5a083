"""What an attempt had said before it ended: its text, read back from the thread's stream."""

from __future__ import annotations

from shared.codec import decode_event
from shared.event_log import Lease
from shared.events import Token
from shared.observability import get_logger
from shared.thread_stream import HoleInStream, ThreadStream

log = get_logger()


async def text_of_attempt(stream: ThreadStream, lease: Lease) -> str:
    """The joined tokens of the lease's attempt, up to a hole if there is one.

    Raises LogUnavailable; ArchiveUnavailable, when Redis has let go, or lost, a part of it.
    """
    parts: list[str] = []
    after, more = lease.first, True
    while more:
        try:
            records, more = await stream.behind(lease.thread_id, after)
        except HoleInStream as error:
            log.warning("last words are not whole", reason=str(error))
            break
        for record in records:
            if record.stream != lease.job_id or record.type != "token":
                continue
            event = decode_event(record.data)
            if isinstance(event, Token) and event.attempt == lease.attempt:
                parts.append(event.content)
        after = records[-1].position if records else after
    return "".join(parts)
