"""What is shown of a message that was found."""

from __future__ import annotations

import pytest

from services.api.snippets import BEFORE_CHARS_MAX, SNIPPET_CHARS_MAX, snippet_of
from shared.search_terms import query_of


def marked(query: str, text: str) -> str:
    pieces = snippet_of(query_of(query), text)
    return "".join(f"[{piece.text}]" if piece.is_match else piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("river", "The RIVER, the rivers.", "The [RIVER], the [rivers]."),
        ("river bank", "bank and river", "[bank] and [river]"),
        ("cafe", "Ein Cafe\u0301!", "Ein [Cafe\u0301]!"),
        ("한국", "나는 한국어를 한국", "나는 [한국]어를 [한국]"),
        ("한국어", "한국어를", "[한국어]를"),
        ("국", "한국어와 국", "한[국]어와 [국]"),
        ("어", "한국어", "한국[어]"),
        ("국어", "국어국어", "[국어국어]"),
        ("b", "<b>&amp;</b>", "<[b]>&amp;</[b]>"),
        ("fluss", "😀 Fluß 😀", "😀 [Fluß] 😀"),
    ],
)
def test_matches_are_set_apart(query: str, text: str, expected: str) -> None:
    assert marked(query, text) == expected


def test_a_long_text_is_cut_around_the_best_match() -> None:
    text = "bank " + "word " * 500 + "a river bank, at last. " + "more " * 500
    snippet = marked("river bank", text)
    assert snippet.startswith("…word ")
    assert "a [river] [bank], at last." in snippet
    assert snippet.endswith("…")
    assert snippet.index("[river]") <= BEFORE_CHARS_MAX + len("… a ")
    assert len(snippet) <= SNIPPET_CHARS_MAX + len("…[][]…")


def test_a_text_of_one_word_is_cut() -> None:
    pieces = snippet_of(query_of("x" * 64), "x" * 10_000)
    assert [len(piece.text) for piece in pieces] == [SNIPPET_CHARS_MAX, 1]
