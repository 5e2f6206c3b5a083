"""Messages of a thread, in the order they were said: Postgres, and from Redis its newest part."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.api.problems import BadRequest
from services.api.queries import count_messages, messages_page, position_of
from shared.archive import Archive
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
    def __init__(self, hot: HotState, archive: Archive) -> None:
        self._hot, self._archive = hot, archive

    async def page(
        self, thread: Thread, *, before: str | None, after: str | None, limit: int
    ) -> Page:
        """The newest messages; the newest before a place; or the first ones after a place.

        A place is a message id or a time. Raises BadRequest for any other, and for two places.
        """
        if before and after:
            raise BadRequest("bad_cursor", "Give `before` or `after`, not both.")
        newest = await unarchived(self._hot, thread.thread_id, archived=thread.archived)
        low = await self._place(thread, after, newest) if after else None
        high = await self._place(thread, before, newest, upto=True) if before else None
        found = {
            message.message_id: message
            for message in await messages_page(
                self._archive, thread.thread_id, after=low, before=high, limit=limit + 1
            )
        }
        for message in newest.values():
            if (low or 0) < message.position < (high or POSITION_MAX):
                found.setdefault(message.message_id, message)
        ordered = sorted(found.values(), key=lambda message: message.position)
        page = ordered[:limit] if after else ordered[-limit:]
        more = len(ordered) > limit
        edge = (page[-1] if after else page[0]).message_id if page and more else None
        counted = await count_messages(self._archive, thread.thread_id, without=list(newest))
        return Page([self._with_state(thread, m) for m in page], edge, counted + len(newest))

    @staticmethod
    def _with_state(thread: Thread, message: Message) -> tuple[Message, MessageState]:
        progress = {"processing": thread.processing, "archived": thread.archived}
        return message, message_state(message.position, **progress)

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
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise BadRequest("bad_cursor", "A place is a message id or an RFC 3339 time.") from None
        if moment.tzinfo is None:
            raise BadRequest("bad_cursor", "A time needs its zone, such as Z.")
        archived = await position_of(self._archive, thread.thread_id, at=moment) or 0
        hot = [
            m.position for m in newest.values() if datetime.fromisoformat(m.created_at) <= moment
        ]
        return max([archived, *hot]) + upto
