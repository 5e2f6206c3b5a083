"""Messages of a thread, in the order they were said: Postgres, and from Redis its newest part."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.api.newest import Newest, newest
from services.api.problems import BadRequest
from services.api.queries import asked_in, count_messages, message_row, messages_page, position_of
from services.api.threads import Threads
from shared.archive import Archive
from shared.errors import NotFound, NotTheOwner
from shared.hot_state import HotState
from shared.ids import is_message_id
from shared.states import MessageState, message_state
from shared.thread_log import Thread
from shared.transcript import Message, message_from, unarchived

POSITION_MAX: Final = 2**62


@dataclass(frozen=True, slots=True)
class Page:
    """Oldest first. ``next_cursor`` goes on in the direction the page was read."""

    items: list[tuple[Message, MessageState]]
    next_cursor: str | None
    total: int


class Messages:
    def __init__(self, threads: Threads, hot: HotState, archive: Archive) -> None:
        self._threads, self._hot, self._archive = threads, hot, archive

    async def page(
        self, user: str, thread_id: str, *, before: str | None, after: str | None, limit: int
    ) -> Page:
        """The newest messages; the newest before a place; or the first ones after a place.

        A place is a message id or a time. Raises NotFound, and BadRequest for any other place, and
        for two.
        """
        if before and after:
            raise BadRequest("bad_cursor", "Give `before` or `after`, not both.")
        thread = await self._threads.get(user, thread_id)
        fresh = await self._newest(thread)
        low = await self._place(thread, after, fresh) if after else None
        high = await self._place(thread, before, fresh, upto=True) if before else None
        archived = await messages_page(
            self._archive, thread_id, after=low, before=high, without=fresh.deleted, limit=limit + 1
        )
        between = range((low or 0) + 1, high or POSITION_MAX)
        found = {message.message_id: message for message in archived}
        for message in fresh.messages.values():
            if message.position in between:
                found.setdefault(message.message_id, message)
        ordered = sorted(found.values(), key=lambda message: message.position)
        page = ordered[:limit] if after else ordered[-limit:]
        edge = None
        if len(ordered) > limit:
            edge = (page[-1] if after else page[0]).message_id
        told = fresh.messages.keys() | fresh.deleted
        total = await count_messages(self._archive, thread_id, without=told) + len(fresh.messages)
        return Page([(message, _state(thread, message)) for message in page], edge, total)

    async def get(self, user: str, thread_id: str, message_id: str) -> tuple[Message, MessageState]:
        """Raises NotFound, also for one that is deleted or not yet said."""
        thread = await self._threads.get(user, thread_id)
        fresh = await self._newest(thread)
        found = fresh.messages.get(message_id)
        if found is None and message_id not in fresh.deleted:
            row = await message_row(self._archive, thread_id, message_id)
            found = message_from(row) if row and row["role"] and not row["deleted_at"] else None
        if found is None:
            raise NotFound()
        return found, _state(thread, found)

    async def question_of(self, user: str, thread_id: str, message_id: str) -> Message:
        """The message itself, if a user asked it, or what it answers. Raises NotFound."""
        thread = await self._threads.get(user, thread_id)
        fresh = await self._newest(thread)
        told = fresh.tail.rows.get(message_id) or await message_row(
            self._archive, thread_id, message_id
        )
        if told is None:
            raise NotFound()
        of_job = (m for m in fresh.messages.values() if m.job_id == told["job_id"])
        found = next((m for m in of_job if m.role == "user"), None)
        found = found or await asked_in(self._archive, told["job_id"])
        if found is None or found.message_id in fresh.deleted:
            raise NotFound()
        return found

    async def delete(self, user: str, thread_id: str, message_id: str) -> MessageState:
        """Delete a message, or one that is still being generated: its job is cancelled first.

        Who asked may, and the thread's owner. How far the deletion has come; it may be repeated.
        Raises NotFound, NotTheOwner.
        """
        thread = await self._threads.get(user, thread_id)
        tail = await unarchived(self._hot, thread_id, archived=thread.archived)
        archived = await message_row(self._archive, thread_id, message_id)
        told = tail.rows.get(message_id) or archived
        if told is None:
            raise NotFound()
        if message_id in tail.deleted:
            return "DELETING"
        if archived and archived["deleted_at"]:
            return "DELETED"
        job_id = told["job_id"]
        job = await self._hot.job(job_id) or await self._archive.job(job_id)
        if user != thread.owner and (job is None or user != job.owner):
            raise NotTheOwner("Only who asked, and the owner of the thread, may do this.")
        await self._threads.delete_message(user, thread_id, message_id, job_id)
        return "DELETING"

    async def read(self, user: str, thread_id: str, message_id: str) -> Thread:
        """Note that the user has read up to a message. Raises NotFound, also for the message."""
        thread = await self._threads.get(user, thread_id)
        upto = await self._position(thread, message_id, await self._newest(thread))
        if upto is None:
            raise NotFound()
        return await self._threads.read(user, thread_id, message_id, upto)

    async def _newest(self, thread: Thread) -> Newest:
        places = {thread.thread_id: thread.archived}
        return (await newest(self._hot, self._archive, places))[thread.thread_id]

    async def _position(self, thread: Thread, message_id: str, fresh: Newest) -> int | None:
        return fresh.position(message_id) or await position_of(
            self._archive, thread.thread_id, message_id=message_id
        )

    async def _place(self, thread: Thread, text: str, fresh: Newest, *, upto: bool = False) -> int:
        """The position of a message, or of the last one said at a time.

        ``upto``: the place is an end, and what was said at that time stands before it.
        """
        if is_message_id(text):
            position = await self._position(thread, text, fresh)
            if position is None:
                raise BadRequest("bad_cursor", "There is no such message in this thread.")
            return position
        moment = _moment(text)
        archived = await position_of(self._archive, thread.thread_id, at=moment) or 0
        hot = (m.position for m in fresh.messages.values() if _moment(m.created_at) <= moment)
        return max(archived, *hot, 0) + upto


def _state(thread: Thread, message: Message) -> MessageState:
    return message_state(message.position, processing=thread.processing, archived=thread.archived)


def _moment(text: str) -> datetime:
    """Raises BadRequest."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest("bad_cursor", "A place is a message id or an RFC 3339 time.") from None
    if moment.tzinfo is None:
        raise BadRequest("bad_cursor", "A time needs its zone, such as Z.")
    return moment
