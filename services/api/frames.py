"""What a WebSocket's client receives, as the JSON of one frame.

A logged frame is an event in other clothes: its writer's own JSON, with another head.

    {"type":"token",                                              "job_id":…,"seq":3,"content":…}
    {"type":"stream_chunk","position":9,"message_id":…,"index":3, "job_id":…,"seq":3,"content":…}

Nothing is parsed on the way but the last event of a job, whose usage is summed up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from services.api.problems import Told
from shared.codec import Record, decode_event
from shared.events import Done

_TYPES: Final = {
    "message.posted": "message",
    "started": "stream_start",
    "token": "stream_chunk",
    "done": "stream_end",
}


def logged_frame(record: Record, message_id: str | None) -> bytes:
    """Of an event; ``message_id`` is the answer that a job's event belongs to."""
    head: dict[str, Any] = {
        "type": _TYPES.get(record.type, record.type),
        "position": record.position,
    }
    if record.type == "done":
        head["tokens_used"] = _tokens_used(record)  # the event has the rest
    elif message_id is not None:
        head["message_id"] = message_id
    if record.type == "token":
        head["index"] = record.seq
    return _encoded(head)[:-1] + b"," + _rest(record)


def welcome_frame(user: str, session_id: str, users: Sequence[str], position: int) -> bytes:
    """The first one: who is met, and how far the thread had come."""
    return _encoded(
        {
            "type": "system",
            "event": "welcome",
            "user": user,
            "session_id": session_id,
            "users": list(users),
            "last_position": position,
        }
    )


def accepted_frame(frame_id: str | None, **facts: Any) -> bytes:
    """What became of a client's frame."""
    return _encoded({"type": "accepted", "id": frame_id, **facts})


def error_frame(frame_id: str | None, told: Told) -> bytes:
    """Why nothing became of a client's frame."""
    body: dict[str, Any] = {
        "type": "error",
        "id": frame_id,
        "code": told.code,
        "message": told.detail,
    }
    if told.retry_seconds is not None:
        body["retry_after"] = told.retry_seconds
    if told.more:
        body |= told.more
    return _encoded(body)


def pong_frame(frame_id: str | None) -> bytes:
    return _encoded({"type": "pong", "id": frame_id})


def typing_frame(user: str, session_id: str, *, is_typing: bool) -> bytes:
    return _encoded(
        {"type": "typing", "user": user, "session_id": session_id, "is_typing": is_typing}
    )


def _encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _rest(record: Record) -> bytes:
    """The event's JSON behind its type, which every writer puts first."""
    opening = b'{"type":"%b",' % record.type.encode()
    if record.data.startswith(opening):
        return record.data[len(opening) :]
    body = json.loads(record.data)
    body.pop("type", None)
    return _encoded(body)[1:]


def _tokens_used(record: Record) -> int | None:
    done = decode_event(record.data)
    return done.usage.total_tokens if isinstance(done, Done) and done.usage else None
