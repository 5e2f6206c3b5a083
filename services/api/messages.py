"""Messages of a thread, in the order they were said: Postgres, and from Redis its newest part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from services.api.problems import BadRequest
from services.api.queries import authors_of, count_messages, messages_page, position_of
from services.api.threads import Threads
from shared.archive import Archive
from shared.errors import NotFound
from shared.hot_state import HotState
from shared.ids import is_message_id
from shared.states import MessageState, message_state
from shared.thread_log import Thread
from shared.transcript import Message, unarchived

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
        newest = await unarchived(self._hot, thread_id, archived=thread.archived)
        low = await self._place(thread, after, newest) if after else None
        high = await self._place(thread, before, newest, upto=True) if before else None
        archived = await messages_page(
            self._archive, thread_id, after=low, before=high, limit=limit + 1
        )
        between = range((low or 0) + 1, high or POSITION_MAX)
        found = {message.message_id: message for message in archived}
        for message in newest.values():
            if message.position in between:
                found.setdefault(message.message_id, message)
        ordered = sorted(found.values(), key=lambda message: message.position)
        page = ordered[:limit] if after else ordered[-limit:]
        edge = None
        if len(ordered) > limit:
            edge = (page[-1] if after else page[0]).message_id
        counted = await count_messages(self._archive, thread_id, without=newest.keys())
        signed = await self._with_authors(page)
        return Page(
            [(message, _state(thread, message)) for message in signed], edge, counted + len(newest)
        )

    async def read(self, user: str, thread_id: str, message_id: str) -> Thread:
        """Note that the user has read up to a message. Raises NotFound, also for the message."""
        thread = await self._threads.get(user, thread_id)
        newest = await unarchived(self._hot, thread_id, archived=thread.archived)
        known = newest.get(message_id)
        upto = (
            known.position
            if known
            else await position_of(self._archive, thread_id, message_id=message_id)
        )
        if upto is None:
            raise NotFound()
        return await self._threads.read(user, thread_id, message_id, upto)

    async def _with_authors(self, page: list[Message]) -> list[Message]:
        """An answer's author stands in its question, which may be archived when it is not."""
        unsigned = [message.message_id for message in page if message.author is None]
        authors = await authors_of(self._archive, unsigned) if unsigned else {}
        return [replace(m, author=m.author or authors.get(m.message_id)) for m in page]

    async def _place(
        self, thread: Thread, text: str, newest: dict[str, Message], *, upto: bool = False
    ) -> int:
        """The position of a message, or of the last one said at a time.

        ``upto``: the place is an end, and what was said at that time stands before it.
        """
        if is_message_id(text):
            known = newest.get(text)
            position = (
                known.position
                if known
                else await position_of(self._archive, thread.thread_id, message_id=text)
            )
            if position is None:
                raise BadRequest("bad_cursor", "There is no such message in this thread.")
            return position
        moment = _moment(text)
        archived = await position_of(self._archive, thread.thread_id, at=moment) or 0
        hot = (m.position for m in newest.values() if _moment(m.created_at) <= moment)
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
