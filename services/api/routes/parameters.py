"""What several routes take from the request beside its body."""

from __future__ import annotations

from typing import Annotated, Final

from litestar.params import HeaderParameter, QueryParameter

from services.api.cursors import event_cursor

# Described only: what is refused here has codes of its own. A field may be there and empty.
_CURSOR: Final = {"pattern": r"^[0-9]{1,15}$"}
_CURSOR_FIELD: Final = {"pattern": r"^[0-9]{0,15}$"}

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="1 to 255 visible characters: a repeat with the same key gets the same answer",
        schema_extra={"pattern": r"^[!-~]([ -~]{0,253}[!-~])?$"},
    ),
]
LastEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID",
        description="the last `id` seen; wins over `after`",
        schema_extra=_CURSOR_FIELD,
    ),
]
After = Annotated[
    str | None,
    QueryParameter(description="the last `id` seen; 0: from the start", schema_extra=_CURSOR),
]


async def event_place(last_event_id: LastEventId = None, after: After = None) -> int:
    """Where a stream or page of events begins. Raises BadRequest."""
    return event_cursor(last_event_id, after)
