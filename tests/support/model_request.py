"""What the scripted model server reads of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Request:
    model: str
    contents: list[str]  # of the messages
    rounds: int  # of tools that the messages tell of
    may_call: bool  # there are tools, and the model may ask for one


def read_request(body: bytes | bytearray) -> Request:
    """Raises ValueError, KeyError or TypeError for what is none, or breaks the rules of tools."""
    request = orjson.loads(body)
    messages: list[dict[str, Any]] = request["messages"]
    _check_tools(messages)
    return Request(
        model=str(request["model"]),
        contents=[str(message["content"]) for message in messages],
        rounds=sum(1 for message in messages if message.get("tool_calls")),
        may_call=bool(request.get("tools")) and request.get("tool_choice") != "none",
    )


def _check_tools(messages: list[dict[str, Any]]) -> None:
    """Each call has its answer right behind it, as real servers insist."""
    asked: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            asked.remove(message["tool_call_id"])  # ValueError for what nobody asked
        elif asked:
            raise ValueError("a call has no answer")
        else:
            asked = _called(message)
    if asked:
        raise ValueError("a call has no answer")


def _called(message: dict[str, Any]) -> list[str]:
    """The ids of a message's calls, each another; arguments must be objects."""
    asked = message.get("tool_calls", [])
    if not all(isinstance(orjson.loads(call["function"]["arguments"]), dict) for call in asked):
        raise ValueError("arguments are no object")
    ids = [call["id"] for call in asked]
    if len(set(ids)) != len(ids):
        raise ValueError("two calls have the same id")
    return ids
