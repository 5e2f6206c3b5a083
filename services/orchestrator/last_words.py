"""What an attempt had said before it ended: its text, read back from the thread's stream."""

from __future__ import annotations

from shared.codec import decode_event
from shared.event_log import Lease
from shared.events import Token
from shared.hot_state import READ_COUNT_MAX, HotState


async def text_of_attempt(hot: HotState, lease: Lease) -> str:
    """The joined tokens of the lease's attempt. Raises LogUnavailable."""
    parts: list[str] = []
    after = lease.first
    while True:
        page = await hot.records(lease.thread_id, after=after)
        for record in page:
            if record.stream != lease.job_id or record.type != "token":
                continue
            event = decode_event(record.data)
            if isinstance(event, Token) and event.attempt == lease.attempt:
                parts.append(event.content)
        if len(page) < READ_COUNT_MAX:
            return "".join(parts)
        after = page[-1].position
