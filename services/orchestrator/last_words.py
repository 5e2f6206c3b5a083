"""What an attempt had said before it ended: its text."""

from __future__ import annotations

from services.orchestrator.job_records import records_of_job
from shared.codec import decode_event
from shared.event_log import Lease
from shared.events import Token
from shared.thread_stream import ThreadStream


async def text_of_attempt(stream: ThreadStream, lease: Lease) -> str:
    """The joined tokens of the lease's attempt, up to a hole if there is one.

    Raises LogUnavailable; ArchiveUnavailable, when Redis has let go, or lost, a part of it.
    """
    parts: list[str] = []
    async for record in records_of_job(stream, lease):
        if record.type == "token":
            event = decode_event(record.data)
            if isinstance(event, Token) and event.attempt == lease.attempt:
                parts.append(event.content)
    return "".join(parts)
