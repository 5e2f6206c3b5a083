"""What a text is found by: folding, cutting, the reading of a query, and the rank."""

from __future__ import annotations

import random

import pytest

from shared.search_terms import (
    PLACE_MAX,
    PLACES_PER_TERM_MAX,
    VECTOR_BYTES_MAX,
    WORD_CHARS_MAX,
    query_of,
    rank_of,
    terms_of,
    tsquery,
    vector_of,
)

ODD = (
    "aé\u0301 ßﬁİ\u3099か\u3099\u1112\u1161\u11ab\u200b𠀀😀\ud7a3"
    "ไ\u0e39हि\u0640ـ'\\:*&|!()<>\n\t\u2028 "
)


def terms(text: str) -> list[str]:
    return [term.term for term in terms_of(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The RIVER's bank, 3.14!", ["the", "river", "s", "bank", "3", "14"]),
        ("Café CAFE\u0301 ｃａｆｅ ça Ёлка", ["cafe", "cafe", "cafe", "ca", "елка"]),
        ("Fluß ﬁne İstanbul", ["fluss", "fine", "istanbul"]),
        ("한국어를 집", ["한국", "국어", "어를", "를", "집"]),
        ("\u1112\u1161\u11ab\u1100\u116e\u11a8", ["한국", "국"]),  # written in parts
        ("東京へ", ["東京", "京へ", "へ"]),
        ("か\u3099ｶﾞ", ["がガ", "ガ"]),
        ("ไทย", ["ไท", "ทย", "ย"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("سَلام ســلام", ["سلام", "سلام"]),
        ("GPT로 하다", ["gpt", "로", "하다", "다"]),
        ("so\u00adft ze\u200bro", ["soft", "zero"]),
        ("😀 … — ¿?", []),
        ("", []),
    ],
)
def test_texts_are_cut_into_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_a_term_knows_where_it_stands() -> None:
    text = "é😀 Fluß\u0301, 한국어"
    found = {term.term: text[term.start : term.end] for term in terms_of(text)}
    assert found == {"e": "é", "fluss": "Fluß\u0301", "한국": "한국", "국어": "국어", "어": "어"}
    assert [term.place for term in terms_of(text)] == [1, 2, 3, 4, 5]


def test_any_text_is_read_and_places_are_within_it() -> None:
    chance = random.Random(1)
    for _ in range(500):
        text = "".join(chance.choices(ODD, k=chance.randint(1, 30)))
        found = list(terms_of(text))
        assert [term.place for term in found] == [*range(1, len(found) + 1)]
        assert all(0 <= term.start < term.end <= len(text) for term in found), repr(text)
        assert all(set("'\\:*&|!()<> ").isdisjoint(term.term) for term in found), repr(text)


@pytest.mark.parametrize(
    ("query", "text", "rank"),
    [
        ("river bank", "On the River bank.", 2),
        ("river bank", "a bank by the river", 1),
        ("river bank", "river banks", 0),
        ("river bank", "rivers bank", None),
        ("riv", "riv", 2),
        ("riv", "rivers", 0),
        ("ri", "rivers", None),
        ("한국", "나는 한국어를 배운다", 2),
        ("한국", "한 국", None),
        ("한국어", "한국 국어", None),
        ("한국어 공부", "한국어 공부를 하다", 2),
        ("한국어 공부", "한국어를 공부하다", 1),
        ("국", "한국어", 2),
        ("어", "한국어", 2),
        ("東京", "私は東京に行く", 2),
        ("gpt 모델", "GPT모델", 2),
        ("...", "...", 2),
    ],
)
def test_rank(query: str, text: str, rank: int | None) -> None:
    if query == "...":
        assert not query_of(query)
    else:
        assert rank_of(query_of(query), text) == rank


def test_as_postgres_writes_it() -> None:
    assert vector_of("b a b 한국") == "'a':2 'b':1,3 '국':5 '한국':4"
    query = query_of("a 한국어 riv")
    assert tsquery(query.parts) == "('a') & ('한국' <1> '국어') & ('riv':*)"
    assert tsquery([query.whole]) == "('a' <1> '한국' <1> '국어' <2> 'riv')"
    assert tsquery(query_of("국").exact.parts) == "('국':*)"


def test_a_vector_keeps_within_what_postgres_takes() -> None:
    assert vector_of("x" * 3000) == f"'{'x' * WORD_CHARS_MAX}':1"
    assert vector_of("a " * 1000).count(",") == PLACES_PER_TERM_MAX - 1
    late = vector_of("a " * PLACE_MAX + "b c")
    assert late.endswith(" 'b' 'c'")
    wide = "".join(chr(0x20000 + n) for n in range(40_000)) * 3
    assert len(vector_of(wide).encode()) < VECTOR_BYTES_MAX * 2
    distinct = " ".join(str(n) for n in range(300_000))
    assert sum(len(term) for term in vector_of(distinct).split()) < VECTOR_BYTES_MAX * 2
