"""A piece of a message around what was found in it, cut where matches begin and end. No I/O.

Pieces of text, not marked-up text: a client has nothing to parse, nothing to escape, and no offsets
whose unit it could mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared.search_terms import Part, Query, Term, is_paired, row_at, terms_of

SNIPPET_CHARS_MAX: Final = 240
BEFORE_CHARS_MAX: Final = 60  # of them, in front of the first match
CUT: Final = "…"

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    is_match: bool


def snippet_of(query: Query, text: str) -> list[Piece]:
    """At most SNIPPET_CHARS_MAX characters, and a mark at each end where the text goes on."""
    terms = list(terms_of(text))
    places: dict[str, list[int]] = {}
    for term in terms:
        places.setdefault(term.term, []).append(term.place)
    spans = _merged(span for part in query.parts for span in _spans(part, terms, places))
    together = row_at(places, query.whole)
    best = terms[together[0] - 1].start if together else min(spans, default=(0, 0))[0]
    start = _beginning(terms, best)
    end = min(len(text), start + SNIPPET_CHARS_MAX)
    pieces = [Piece(CUT, is_match=False)] if start > 0 else []
    pieces += _pieces(text, spans, start, end)
    return pieces if end == len(text) else [*pieces, Piece(CUT, is_match=False)]


def _spans(
    part: Part, terms: Sequence[Term], places: Mapping[str, Sequence[int]]
) -> Iterator[Span]:
    """Where a part stands in the text."""
    for place in row_at(places, part):
        first, last = terms[place - 1], terms[place - 2 + len(part)]
        end = last.end
        if part[-1].open and is_paired(last.term) and place < len(terms):
            end = min(end, terms[place].start)  # of the pair, the character that was asked for
        yield first.start, end


def _merged(spans: Iterable[Span]) -> list[Span]:
    """In order, those that touch as one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _beginning(terms: Sequence[Term], best: int) -> int:
    """Where a snippet begins: with a word, a little in front of the match."""
    earliest = best - BEFORE_CHARS_MAX
    if earliest <= 0:
        return 0
    return next(term.start for term in terms if term.start >= earliest)


def _pieces(text: str, spans: Iterable[Span], start: int, end: int) -> Iterator[Piece]:
    """The text from start to end, cut at the spans."""
    done = start
    for first, last in spans:
        first, last = max(first, done), min(last, end)
        if first >= last:
            continue
        if done < first:
            yield Piece(text[done:first], is_match=False)
        yield Piece(text[first:last], is_match=True)
        done = last
    if done < end:
        yield Piece(text[done:end], is_match=False)
