"""Calls of tools, put together from the pieces of every server that is known to do it otherwise."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.model import ToolUse
from services.orchestrator.tool_pieces import ARGUMENT_CHARS_MAX, CALLS_MAX, ToolPieces
from tests.support.model_calls import SHAPES, call_deltas, calls

ARGUMENTS = st.dictionaries(st.text(max_size=5), st.text(max_size=8) | st.integers(), max_size=3)
NAMES = st.sampled_from(["now", "find", "search_messages"])


def put_together(*deltas: object) -> Sequence[ToolUse]:
    pieces = ToolPieces()
    for delta in deltas:
        pieces.add(delta)
    return pieces.whole()


@pytest.mark.parametrize("shape", SHAPES)
@given(wanted=st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=4))
def test_every_shape_gives_the_same_calls(
    shape: str, wanted: list[tuple[str, dict[str, object]]]
) -> None:
    deltas = [delta["tool_calls"] for delta in call_deltas(calls(*wanted), shape, 0)]
    whole = put_together(*deltas)
    assert [(use.name, json.loads(use.arguments)) for use in whole] == wanted
    has_ids = shape not in ("no_id", "bare")
    assert [use.id for use in whole] == [
        f"call_0_{number}" if has_ids else "" for number in range(len(wanted))
    ]


@given(wanted=st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=4))
def test_pieces_of_several_calls_may_be_mixed(wanted: list[tuple[str, dict[str, object]]]) -> None:
    by_call = [
        [d["tool_calls"][0] | {"index": number} for d in call_deltas(calls(one), "split", number)]
        for number, one in enumerate(wanted)
    ]
    mixed = [
        [pieces[place] for pieces in by_call if place < len(pieces)]
        for place in range(max(map(len, by_call)))
    ]
    whole = put_together(*mixed)
    assert [(use.name, json.loads(use.arguments)) for use in whole] == wanted


def piece(name: str | None = None, arguments: object = None, **rest: object) -> dict[str, object]:
    return {**rest, "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("deltas", "whole"),
    [
        ([piece("now", "{}", index=0, id="a")], [("a", "now", "{}")]),  # no list around it
        ([[None, piece("now", None, id=7)]], [("7", "now", "")]),
        (
            [[piece("now", '{"a":', index="0"), piece(None, "1}", index=0)]],
            [("", "now", '{"a":1}')],
        ),
        (  # whole ones of the same name, with nothing to tell them apart
            [[piece("now", "{}")], [piece("now", "{}")], [piece("now", '{"a":1}')]],
            [("", "now", "{}"), ("", "now", "{}"), ("", "now", '{"a":1}')],
        ),
        (  # the id comes late, or empty
            [[piece("now", "", index=0, id="")], [piece("", "{}", index=0, id="a")]],
            [("a", "now", "{}")],
        ),
        ([[{"index": 0, "id": "a", "function": None}], [piece("n\0ow", "{}", index=0)]],
         [("a", "now", "{}")]),
    ],
)  # fmt: skip
def test_odd_pieces(deltas: list[object], whole: list[tuple[str, str, str]]) -> None:
    assert put_together(*deltas) == tuple(ToolUse(*call) for call in whole)


@pytest.mark.parametrize(
    "delta",
    [
        ["no piece"],
        7,
        [{"function": "now"}],
        [piece("now", ["no", "object"])],
        [piece("now", "x" * (ARGUMENT_CHARS_MAX + 1))],
        [piece("now", "{}", id=str(number)) for number in range(CALLS_MAX + 1)],
        [{"id": {}, "function": {"name": "now"}}],
    ],
)
def test_what_is_no_call_or_too_much_is_refused(delta: object) -> None:
    with pytest.raises(ValueError, match=r"not an? |too many|no object"):
        put_together(delta)
