"""Threads of a user: find, list, create, change. Redis where it is fresher, Postgres otherwise.

A thread whose latest change is not yet in Postgres is *dirty*: Redis knows which ones of a user
are. A list takes those from Redis and all others from Postgres, so a client that got its 2xx sees
what it did in its next read, on any gateway, without waiting for the persister.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from services.api.absence import present
from services.api.cursors import ThreadCursor, reached
from services.api.queries import ThreadQuery, threads_page
from shared.archive import Archive
from shared.errors import LogUnavailable, NotFound
from shared.events import ThreadCreated, ThreadDeleted, ThreadUpdated
from shared.hot_state import HotState
from shared.ids import is_thread_id, new_thread_id, thread_id_for_key
from shared.log_protocol import Idempotency, ThreadNotLoaded
from shared.thread_log import Thread, ThreadLog
from shared.times import utc_now

LOADS_MAX: Final = 3  # of one thread in one request: it may expire again in between

Result = TypeVar("Result")


class Threads:
    def __init__(self, log: ThreadLog, hot: HotState, archive: Archive) -> None:
        self._log, self._hot, self._archive = log, hot, archive

    async def known(self, thread_id: str) -> Thread | None:
        """The thread, whoever owns it and also when it is deleted."""
        return await self._hot.thread(thread_id) or await self._archive.thread(thread_id)

    async def get(self, user: str, thread_id: str) -> Thread:
        """Raises NotFound: no such thread, or not this user's, or deleted; LogUnavailable."""
        if not is_thread_id(thread_id):
            raise NotFound()
        partition = self._hot.keys(thread_id).partition
        thread = await present(
            self._hot,
            partition,
            lambda: self.known(thread_id),
            theirs=lambda thread: thread.owner == user,
        )
        if thread.is_gone:
            raise NotFound()
        return thread

    async def reached(self, user: str, thread_id: str, place: int) -> Thread:
        """The thread, whose stream has come as far as the cursor.

        Raises NotFound; BadRequest for a cursor that was never given out.
        """
        return await reached(
            self._hot, place, lambda: self.get(user, thread_id), lambda thread: thread.position
        )

    async def list(self, user: str, query: ThreadQuery) -> tuple[list[Thread], ThreadCursor | None]:
        """One page, newest activity first, and the cursor of the next one."""
        dirty = [thread for thread in await self._hot.dirty_threads(user) if thread.owner == user]
        found = await threads_page(
            self._archive,
            user,
            replace(query, limit=query.limit + 1),
            without=[thread.thread_id for thread in dirty],
        )
        found += filter(query.fits, dirty)
        found.sort(key=ThreadCursor.of, reverse=True)
        page = found[: query.limit]
        return page, ThreadCursor.of(page[-1]) if len(found) > query.limit else None

    async def create(
        self,
        user: str,
        *,
        title: str | None,
        agent: str | None,
        metadata: dict[str, Any],
        idempotency: Idempotency | None,
    ) -> Thread:
        """Raises IdempotencyMismatch.

        A key names its thread for good. One that was made longer ago than keys are remembered, and
        that Redis has let go, is what Postgres has, not a new thread in its place.
        """
        event = ThreadCreated(
            thread_id=thread_id_for_key(user, idempotency.key) if idempotency else new_thread_id(),
            at=utc_now(),
            owner=user,
            title=title,
            agent=agent,
            metadata=metadata,
        )
        if idempotency and await self._hot.thread(event.thread_id) is None:
            archived = await self._archive.thread(event.thread_id)
            if archived is not None and not archived.is_gone:
                await self._log.load(archived)
        created_at = await self._log.create_thread(event, idempotency=idempotency)
        return _created(event, created_at)

    async def update(self, user: str, event: ThreadUpdated) -> Thread:
        """Raises NotFound."""
        await self.get(user, event.thread_id)
        await self.loaded(event.thread_id, lambda: self._log.change_thread(user, event))
        return await self.get(user, event.thread_id)

    async def delete(self, user: str, thread_id: str) -> None:
        """Raises NotFound, also when it is deleted already."""
        await self.get(user, thread_id)
        event = ThreadDeleted(thread_id=thread_id, at=utc_now())
        await self.loaded(thread_id, lambda: self._log.change_thread(user, event))

    async def loaded(self, thread_id: str, call: Callable[[], Awaitable[Result]]) -> Result:
        """Make a call that needs the thread in Redis, loading it from Postgres when it is not."""
        for _ in range(LOADS_MAX):
            try:
                return await call()
            except ThreadNotLoaded:
                thread = await self._archive.thread(thread_id)
                if thread is None:
                    raise NotFound() from None
                await self._log.load(thread)
        raise LogUnavailable("The thread leaves Redis faster than it is loaded.")


def _created(event: ThreadCreated, created_at: str) -> Thread:
    return Thread(
        thread_id=event.thread_id,
        owner=event.owner,
        state="PENDING",
        status="active",
        title=event.title,
        agent=event.agent,
        created_at=created_at,
        updated_at=created_at,
        position=1,
        seq=1,
        archived=0,
        processing=0,
        metadata=event.metadata,
    )
