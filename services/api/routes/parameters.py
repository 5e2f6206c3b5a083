"""What several routes take from the request beside its body."""

from __future__ import annotations

from typing import Annotated

from litestar.params import HeaderParameter, QueryParameter

from services.api.cursors import event_cursor

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="1 to 255 visible characters: a repeat with the same key gets the same answer",
    ),
]
LastEventId = Annotated[
    str | None,
    HeaderParameter(name="Last-Event-ID", description="the last `id` seen; wins over `after`"),
]
After = Annotated[str | None, QueryParameter(description="the last `id` seen; 0: from the start")]


async def event_place(last_event_id: LastEventId = None, after: After = None) -> int:
    """Where a stream or page of events begins. Raises BadRequest."""
    return event_cursor(last_event_id, after)
