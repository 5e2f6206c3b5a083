"""Messages folded from a thread's newest events: what the persister has not yet committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from shared.codec import Record, decode_event
from shared.hot_state import READ_COUNT_MAX, HotState
from shared.projection import Projection, Row
from shared.read_model import files, messages, summaries
from shared.summaries import Summary, summary_from
from shared.times import rfc3339

TOLD_ELSEWHERE: Final = frozenset({"token", "file.passages"})  # types that tell of no message


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
    replaces: str | None = None  # an earlier question, with all that was said from there on
    replaced_position: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    attachments: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


@dataclass(frozen=True, slots=True)
class Tail:
    """What a thread's newest events say of its messages: rows of the read model, by message id.

    And of its files, by file id.

    An event may speak of a message whose other events are archived: of its end, or its deletion.
    """

    rows: Mapping[str, Row]
    files: Mapping[str, Row] = field(default_factory=dict[str, Row])
    summary: Summary | None = None  # the newest

    @property
    def messages(self) -> dict[str, Message]:
        """What was said, and is not deleted as far as these events tell."""
        return {
            message_id: message_from(row)
            for message_id, row in self.rows.items()
            if row.get("role") and not row.get("deleted_at")
        }

    @property
    def deleted(self) -> set[str]:
        return {message_id for message_id, row in self.rows.items() if row.get("deleted_at")}


def fold(thread_id: str, records: Iterable[Record]) -> Tail:
    """What records tell of messages, as the persister would project it."""
    projection = Projection()
    for record in records:
        if record.type not in TOLD_ELSEWHERE:
            projection.add(thread_id, record.position, decode_event(record.data))
    row = projection.rows[summaries].get(thread_id)
    return Tail(
        projection.rows[messages], projection.rows[files], summary_from(row) if row else None
    )


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
        replaces=row.get("replaces"),
        replaced_position=row.get("replaced_position"),
        metadata=row.get("metadata") or {},
        attachments=row.get("attachments") or [],
    )


async def unarchived(hot: HotState, thread_id: str, *, archived: int) -> Tail:
    """What was told behind an archived position. Raises LogUnavailable.

    Read this before Postgres: what moves from one to the other in between is then seen twice,
    never missed.
    """
    return (await unarchived_of(hot, {thread_id: archived}))[thread_id]


async def unarchived_of(hot: HotState, archived: Mapping[str, int]) -> dict[str, Tail]:
    """The same of several threads, by thread, in as few round trips as the longest one takes."""
    records: dict[str, list[Record]] = {thread_id: [] for thread_id in archived}
    places = dict(archived)
    while places:
        pages = await hot.records_of(places)
        for thread_id, page in pages.items():
            records[thread_id] += (r for r in page if r.type not in TOLD_ELSEWHERE)
        places = {
            thread_id: page[-1].position
            for thread_id, page in pages.items()
            if len(page) == READ_COUNT_MAX
        }
    return {thread_id: fold(thread_id, found) for thread_id, found in records.items()}
