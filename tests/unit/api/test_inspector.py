"""How a text is cut into passages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.api.inspector import PASSAGE_CHARS, TEXT_CHARS_MAX, passages_of


def passages(text: str) -> list[str]:
    return list(passages_of(text))


def test_short_paragraphs_stand_together() -> None:
    assert passages("one\n\ntwo\n \n\nthree\n") == ["one\n\ntwo\n\nthree"]
    assert passages("") == passages(" \n\n ") == []


def test_a_passage_ends_with_a_paragraph() -> None:
    paragraphs = [f"{n} " + "x" * 400 for n in range(5)]
    assert passages("\n\n".join(paragraphs)) == [
        "\n\n".join(paragraphs[:2]),
        "\n\n".join(paragraphs[2:4]),
        paragraphs[4],
    ]


def test_a_long_paragraph_is_cut_behind_a_sentence_or_between_words() -> None:
    sentences = [f"This is sentence number {n} of many." for n in range(100)]
    assert all(each.endswith(".") for each in passages(" ".join(sentences)))
    words = passages("word " * 1000)
    assert all(each.startswith("word") and each.endswith("word") for each in words)
    assert [len(each) for each in passages("x" * 2500)] == [1000, 1000, 500]


def test_what_cannot_be_said_in_json_or_stored_is_left_out() -> None:
    assert passages("a\0b\ud800c\x1bd") == ["abcd"]


@given(st.text(st.sampled_from("ab. \n강。"), max_size=6000))
def test_nothing_is_lost_and_nothing_too_long(text: str) -> None:
    found = passages(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(0 < len(each) <= PASSAGE_CHARS for each in found)


def test_a_text_is_bounded() -> None:
    assert sum(map(len, passages("word " * TEXT_CHARS_MAX))) <= TEXT_CHARS_MAX
