"""Messages folded from a thread's newest events: what the persister has not yet committed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.codec import Record, decode_event
from shared.events import Done, MessagePosted
from shared.hot_state import READ_COUNT_MAX, HotState


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
    """The messages that records tell of, by id, in order of position.

    An answer that was cancelled before anybody began it is no message.
    """
    messages: dict[str, Message] = {}
    agents: dict[str, str] = {}
    for record in records:
        if record.type not in ("message.posted", "done"):
            continue
        event = decode_event(record.data)
        if isinstance(event, MessagePosted):
            agents[event.job_id] = event.agent
            messages[event.message_id] = Message(
                message_id=event.message_id,
                thread_id=thread_id,
                job_id=event.job_id,
                role="user",
                author=event.user,
                content=event.content,
                position=record.position,
                created_at=event.at,
                metadata=event.metadata,
            )
        elif isinstance(event, Done) and (event.content or event.attempt):
            messages[event.message_id] = Message(
                message_id=event.message_id,
                thread_id=thread_id,
                job_id=event.job_id,
                role="assistant",
                author=agents.get(event.job_id),
                content=event.content,
                position=record.position,
                created_at=event.at,
                status=event.status,
                finish_reason=event.finish_reason,
                usage=event.usage.model_dump() if event.usage else None,
            )
    return messages


async def unarchived(hot: HotState, thread_id: str, *, archived: int) -> dict[str, Message]:
    """The messages behind an archived position. Raises LogUnavailable.

    Read this before Postgres: what moves from one to the other in between is then seen twice,
    never missed.
    """
    records: list[Record] = []
    after = archived
    while True:
        page = await hot.records(thread_id, after=after)
        records += page
        if len(page) < READ_COUNT_MAX:
            return fold(thread_id, records)
        after = page[-1].position
