"""Tools that the scripted model asks for, in the shapes in which servers send such calls.

    fake:call=now~{}                            the tool `now`, once; then 16 tokens
    fake:call=now~{}+now~{},call_rounds=3       two at once, three times over
    fake:call=now~{},call_shape=no_index        as some servers do it

``calls`` writes the option for names and arguments of any kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args
from urllib.parse import quote, unquote

Shape = Literal["split", "whole", "no_index", "no_id", "same_index", "bare", "object", "repeated"]
SHAPES = get_args(Shape)
PIECE_CHARS = 3

Piece = dict[str, Any]


def calls(*wanted: tuple[str, object]) -> str:
    """The value of ``call``: pairs of a tool and its arguments, or any text in their place."""
    return "+".join(
        f"{quote(name)}~{quote(given if isinstance(given, str) else json.dumps(given))}"
        for name, given in wanted
    )


def call_deltas(call: str, shape: str, round_number: int) -> Iterator[Mapping[str, Any]]:
    """The deltas of an answer that asks for tools. Raises ValueError for an unknown shape."""
    if shape not in SHAPES:
        raise ValueError(f"no such shape: {shape}")
    for number, one in enumerate(call.split("+")):
        name, _, arguments = map(unquote, one.partition("~"))
        call_id = f"call_{round_number}_{number}"
        for piece in _pieces(shape, number, call_id, name, arguments):
            yield {"tool_calls": [piece]}


def _pieces(
    shape: str, number: int, call_id: str, name: str, arguments: str
) -> Iterator[Mapping[str, Any]]:
    whole = {"id": call_id, "type": "function"}
    function: Piece = {"name": name, "arguments": arguments}
    if shape == "object":
        function = {"name": name, "arguments": json.loads(arguments)}
    index = (
        {} if shape in ("no_index", "bare") else {"index": 0 if shape == "same_index" else number}
    )
    if shape in ("no_id", "bare"):
        whole.pop("id")
    if shape in ("whole", "same_index", "object"):
        yield {**index, **whole, "function": function}
        return
    yield {**index, **whole, "function": {"name": name, "arguments": ""}}
    for start in range(0, len(arguments), PIECE_CHARS):
        piece: Piece = {"arguments": arguments[start : start + PIECE_CHARS]}
        if shape == "repeated":
            yield {**index, **whole, "function": {"name": name, **piece}}
        else:
            yield {**index, "function": piece}
