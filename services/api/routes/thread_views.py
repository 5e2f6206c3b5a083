"""What a client sees of a thread: the thread, and what of it is new to them."""

from __future__ import annotations

from collections.abc import Sequence

from services.api.schemas import ThreadView
from services.api.unread import Unread
from shared.thread_log import Thread


class ThreadViews:
    def __init__(self, unread: Unread) -> None:
        self._unread = unread

    async def one(self, user: str, thread: Thread) -> ThreadView:
        return (await self.many(user, [thread]))[0]

    def new(self, thread: Thread) -> ThreadView:
        """Of one that was just made, or is given once more as it was made."""
        return _view(thread, 0)

    async def many(self, user: str, threads: Sequence[Thread]) -> list[ThreadView]:
        counts = await self._unread.counts(user, threads)
        return [_view(thread, counts[thread.thread_id]) for thread in threads]


def _view(thread: Thread, unread_count: int | None) -> ThreadView:
    return ThreadView(
        thread_id=thread.thread_id,
        owner=thread.owner,
        participants=list(thread.participants),
        title=thread.title,
        agent=thread.agent,
        metadata=thread.metadata,
        status=thread.status,
        state=thread.state,
        active_job_id=thread.active_job_id,
        last_position=thread.position,
        unread_count=unread_count,
        created_at=thread.created_at,
        updated_at=thread.updated_at,
    )
