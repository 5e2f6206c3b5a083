"""The tools that a model asks for, put together from the pieces in which servers send them. No I/O.

    {"index":0,"id":"call_7","function":{"name":"find","arguments":""}}
    {"index":0,"function":{"arguments":"{\\"q\\":"}}
    {"index":0,"function":{"arguments":"1}"}}          ──▶  call_7 find {"q":1}

Servers differ. A piece goes on with the call of its ``index``, or, without one, with the newest
call, unless it begins another:

- both have an id, and not the same one (some give every call the index 0);
- one of them has none, it names a function, and that call has another name, or all its arguments.

So pieces may repeat the id or the name, and come without index, without id, or whole. Arguments may
be an object instead of its text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import orjson

from services.orchestrator.model import ToolUse

CALLS_MAX: Final = 32  # of one answer
ARGUMENT_CHARS_MAX: Final = 64 * 1024  # of all calls of one answer
NAME_CHARS_MAX: Final = 128

_NUL: Final = "\0"
_NOTHING: Final[Mapping[str, object]] = {}


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    arguments: str = ""

    @property
    def is_whole(self) -> bool:
        try:
            return isinstance(orjson.loads(self.arguments), dict)
        except orjson.JSONDecodeError:
            return False


class ToolPieces:
    """The calls of one answer. Raises ValueError for what is no call, or too much of it."""

    __slots__ = ("_by_index", "_calls", "_chars")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[str, _Call] = {}
        self._chars = 0

    def add(self, pieces: object) -> None:
        """Take a delta's ``tool_calls``: a list of pieces, or just one."""
        for piece in cast("list[object]", pieces) if isinstance(pieces, list) else [pieces]:
            if piece is not None:
                self._take(_object(piece))

    def whole(self) -> tuple[ToolUse, ...]:
        """The calls, in the order in which they began."""
        return tuple(ToolUse(call.id, call.name, call.arguments) for call in self._calls)

    def _take(self, piece: Mapping[str, object]) -> None:
        function = _object(piece.get("function") or _NOTHING)
        call_id, name = _text(piece.get("id")), _text(function.get("name"))[:NAME_CHARS_MAX]
        index = piece.get("index")
        call = self._meant(index, call_id, name)
        if call is None:
            call = _Call(call_id, name)
            self._calls.append(call)
            if len(self._calls) > CALLS_MAX:
                raise ValueError("too many calls")
        if index is not None:
            self._by_index[str(index)] = call
        call.id, call.name = call.id or call_id, call.name or name
        arguments = _arguments(function.get("arguments"))
        self._chars += len(arguments)
        if self._chars > ARGUMENT_CHARS_MAX:
            raise ValueError("too many arguments")
        call.arguments += arguments

    def _meant(self, index: object, call_id: str, name: str) -> _Call | None:
        """The call that a piece goes on with, if it does not begin one."""
        if index is not None:
            call = self._by_index.get(str(index))
        elif call_id:
            call = next((known for known in self._calls if known.id == call_id), None)
        else:
            call = self._calls[-1] if self._calls else None
        if call is None:
            return None
        if call_id and call.id:
            return call if call_id == call.id else None
        is_another = name and call.name and (name != call.name or call.is_whole)
        return None if is_another else call


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return cast("dict[str, object]", value)


def _text(value: object) -> str:
    """A name or an id. Some servers number their calls."""
    if value is None:
        return ""
    if not isinstance(value, str | int):
        raise ValueError("not a name")
    return str(value).replace(_NUL, "")


def _arguments(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            raise ValueError("arguments are no object")
