"""Messages folded from a thread's newest events: what the persister has not yet committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.codec import Record, decode_event
from shared.hot_state import READ_COUNT_MAX, HotState
from shared.projection import Projection
from shared.read_model import messages
from shared.times import rfc3339


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a thread; the same shape from Redis and from Postgres."""

    message_id: str
    thread_id: str
    job_id: str
    role: Literal["user", "assistant"]
    author: str | None  # the user, or the agent
    content: str
    position: int
    created_at: str
    status: str | None = None  # of an answer: done | failed | cancelled
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])


def fold(thread_id: str, records: Iterable[Record]) -> dict[str, Message]:
    """The messages that records tell of, by id, as the persister would project them."""
    projection = Projection()
    for record in records:
        if record.type != "token":
            projection.add(thread_id, record.position, decode_event(record.data))
    rows = projection.rows[messages].values()
    return {row["message_id"]: message_from(row) for row in rows if row.get("role")}


def message_from(row: Any) -> Message:
    """A message from a row of the read model, as a mapping by column name."""
    return Message(
        message_id=row["message_id"],
        thread_id=row["thread_id"],
        job_id=row["job_id"],
        role=row["role"],
        author=row.get("author"),
        content=row["content"],
        position=row["position"],
        created_at=rfc3339(row["created_at"]),
        status=row.get("status"),
        finish_reason=row.get("finish_reason"),
        usage=row.get("usage"),
        metadata=row.get("metadata") or {},
    )


async def unarchived(hot: HotState, thread_id: str, *, archived: int) -> dict[str, Message]:
    """The messages behind an archived position. Raises LogUnavailable.

    Read this before Postgres: what moves from one to the other in between is then seen twice,
    never missed.
    """
    found = await unarchived_of(hot, {thread_id: archived})
    return {message.message_id: message for message in found}


async def unarchived_of(hot: HotState, archived: Mapping[str, int]) -> list[Message]:
    """The same for several threads: the messages behind an archived position of each."""
    records: dict[str, list[Record]] = {thread_id: [] for thread_id in archived}
    after = dict(archived)
    while after:
        pages = await hot.records_of(after)
        for thread_id, page in pages.items():
            records[thread_id] += (record for record in page if record.type != "token")
        full = {name: page for name, page in pages.items() if len(page) == READ_COUNT_MAX}
        after = {thread_id: page[-1].position for thread_id, page in full.items()}
    return [message for name, said in records.items() for message in fold(name, said).values()]
