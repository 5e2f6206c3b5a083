"""Cursors of lists: opaque to clients, and refused when they are not ours."""

from __future__ import annotations

import base64
import json
from typing import NamedTuple

from services.api.problems import BadRequest
from shared.ids import is_thread_id
from shared.thread_log import Thread


class ThreadCursor(NamedTuple):
    """A place in the list of threads; orders as the list does, newest last."""

    updated_at: str
    thread_id: str

    @classmethod
    def of(cls, thread: Thread) -> ThreadCursor:
        return cls(thread.updated_at, thread.thread_id)

    def encode(self) -> str:
        return base64.urlsafe_b64encode(json.dumps(list(self)).encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> ThreadCursor:
        """Raises BadRequest."""
        try:
            raw = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
            updated_at, thread_id = json.loads(raw)
            if not (isinstance(updated_at, str) and is_thread_id(str(thread_id))):
                raise ValueError
        except (ValueError, TypeError):
            raise BadRequest("bad_cursor", "This cursor is not one of ours.") from None
        return cls(updated_at, thread_id)


def event_cursor(last_event_id: str | None, after: str | None) -> int:
    """Where a stream resumes: the header wins, since a browser sends it on a reconnect.

    Raises BadRequest for anything but a number from 0 up.
    """
    text = last_event_id if last_event_id else after
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise BadRequest("bad_cursor", "A cursor is the id of an event: a whole number from 0 up.")
    return int(text)
