"""Threads of a user, own and joined: Redis where it is fresher, Postgres otherwise.

A thread whose latest change is not yet in Postgres is *dirty*: Redis knows which ones of a user
are. A list takes those from Redis and all others from Postgres, so a client that got its 2xx sees
what it did in its next read, on any gateway, without waiting for the persister.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from services.api.absence import present
from services.api.cursors import ThreadCursor, reached
from services.api.queries import ThreadQuery, threads_page
from shared.archive import Archive
from shared.errors import ArchiveUnavailable, EventsGone, LogUnavailable, NotFound
from shared.events import (
    FileAdded,
    FileDeleted,
    FilePassages,
    MessageDeleted,
    ParticipantJoined,
    ParticipantLeft,
    ThreadCreated,
    ThreadDeleted,
    ThreadRead,
    ThreadUpdated,
)
from shared.hot_state import HotState
from shared.idempotency import Claims, Idempotency, Plan
from shared.ids import is_thread_id, new_thread_id
from shared.log_protocol import ThreadNotLoaded
from shared.thread_log import Change, Thread, ThreadLog
from shared.times import age_seconds, utc_now

EVENTS_KEPT_SECONDS_MIN: Final = 86_400.0  # whatever is set
LOADS_MAX: Final = 3  # of one thread in one request: it may expire again in between

Result = TypeVar("Result")


class Threads:
    def __init__(self, log: ThreadLog, hot: HotState, archive: Archive, claims: Claims) -> None:
        self._log, self._hot, self._archive, self._claims = log, hot, archive, claims

    async def known(self, thread_id: str) -> Thread | None:
        """The thread, whoever owns it and also when it is deleted."""
        return await self._hot.thread(thread_id) or await self._archive.thread(thread_id)

    async def get(self, user: str, thread_id: str) -> Thread:
        """Raises NotFound: no such thread, or not for this user, or deleted; LogUnavailable."""
        thread = await self.seen(user, thread_id)
        if thread.is_gone:
            raise NotFound()
        return thread

    async def seen(self, user: str, thread_id: str) -> Thread:
        """The same, also when it is deleted: its jobs may still be read."""
        if not is_thread_id(thread_id):
            raise NotFound()
        partition = self._hot.keys(thread_id).partition
        return await present(
            self._hot,
            partition,
            lambda: self.known(thread_id),
            theirs=lambda thread: thread.has(user),
        )

    async def may_follow(self, user: str, thread_id: str) -> bool:
        """Whether the thread is still there for the user; not, while that is not known."""
        try:
            return (await self.seen(user, thread_id)).has(user)
        except (NotFound, LogUnavailable, ArchiveUnavailable):
            return False

    async def reached(self, user: str, thread_id: str, place: int) -> Thread:
        """The thread, whose stream has come as far as the cursor.

        Raises NotFound, EventsGone; BadRequest for a cursor that was never given out.
        """
        thread = await reached(
            self._hot, place, lambda: self.get(user, thread_id), lambda thread: thread.position
        )
        if place < thread.position and age_seconds(thread.created_at) > EVENTS_KEPT_SECONDS_MIN:
            with suppress(ArchiveUnavailable):  # what is in Redis can be followed without it
                if place < (upto := await self._archive.settled_position(thread_id)):
                    raise EventsGone(f"Events up to {upto} are kept no longer: read the messages.")
        return thread

    async def list(self, user: str, query: ThreadQuery) -> tuple[list[Thread], ThreadCursor | None]:
        """One page, newest activity first, and the cursor of the next one."""
        dirty = await self._hot.dirty_threads(user)
        found = await threads_page(
            self._archive,
            user,
            replace(query, limit=query.limit + 1),
            without=[thread.thread_id for thread in dirty],
        )
        found += [thread for thread in dirty if thread.has(user) and query.fits(thread)]
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
        """Raises IdempotencyMismatch. A repeat gets the thread as it was made."""
        mine = Plan.new(new_thread_id(), self._hot.partitions)
        plan = await self._claims.claim(user, idempotency, mine)
        event = ThreadCreated(
            thread_id=plan.thread_id,
            at=plan.at,
            owner=user,
            title=title,
            agent=agent,
            metadata=metadata,
        )
        if plan == mine or await self.known(plan.thread_id) is None:
            await self._log.create_thread(event)
        return _created(event)

    async def update(self, user: str, event: ThreadUpdated) -> Thread:
        """Raises NotFound, NotTheOwner."""
        await self._change(user, event)
        return await self.get(user, event.thread_id)

    async def delete(self, user: str, thread_id: str) -> None:
        """Raises NotFound, also when it is deleted already; NotTheOwner."""
        await self._change(user, ThreadDeleted(thread_id=thread_id, at=utc_now()))

    async def invite(self, user: str, thread_id: str, guest: str) -> Thread:
        """Let a user in, if not yet done. Raises NotFound, NotTheOwner, ThreadCrowded."""
        await self._change(user, ParticipantJoined(thread_id=thread_id, at=utc_now(), user=guest))
        return await self.get(user, thread_id)

    async def part(self, user: str, thread_id: str, guest: str) -> None:
        """Take a user out, if not yet done. Raises NotFound, NotTheOwner, OwnerStays."""
        await self._change(user, ParticipantLeft(thread_id=thread_id, at=utc_now(), user=guest))

    async def read(self, user: str, thread_id: str, message_id: str, upto: int) -> Thread:
        """Note how far a user has read; it only goes onward. Raises NotFound."""
        event = ThreadRead(
            thread_id=thread_id, at=utc_now(), user=user, message_id=message_id, upto=upto
        )
        await self._change(user, event)
        return await self.get(user, thread_id)

    async def delete_message(self, user: str, thread_id: str, message_id: str, job_id: str) -> None:
        """Delete a message that is the user's to delete. Raises NotFound."""
        event = MessageDeleted(
            thread_id=thread_id, at=utc_now(), message_id=message_id, job_id=job_id, user=user
        )
        await self._change(user, event)

    async def add_file(self, user: str, event: FileAdded, text: Sequence[FilePassages]) -> None:
        """Tell of a file whose bytes are kept, and of its text. Raises NotFound."""
        await self._change(user, event, behind=text)

    async def delete_file(self, user: str, event: FileDeleted) -> None:
        """Delete a file that is the user's to delete. Raises NotFound."""
        await self._change(user, event)

    async def _change(
        self, user: str, event: Change, *, behind: Sequence[FilePassages] = ()
    ) -> None:
        await self.get(user, event.thread_id)
        await self.loaded(
            event.thread_id, lambda: self._log.change_thread(user, event, behind=behind)
        )

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


def _created(event: ThreadCreated) -> Thread:
    return Thread(
        thread_id=event.thread_id,
        owner=event.owner,
        state="PENDING",
        status="active",
        title=event.title,
        agent=event.agent,
        created_at=event.at,
        updated_at=event.at,
        position=1,
        seq=1,
        archived=0,
        processing=0,
        metadata=event.metadata,
    )
