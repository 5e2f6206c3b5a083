"""What a message is found by: its terms, and what a query asks of them. No I/O.

One reading of a text serves the index, the query, what is not yet indexed, and the highlights, so
they cannot disagree. A text is folded (case, width, accents) and cut into places:

    "Der Fluß fließt"   der  fluss  fliesst                a word is a place and a term
    "한국어를 배우다"      한국 국어 어를 를  배우 우다 다       a character is a place; its term is
                                                           the pair that it begins

Scripts that write no space between words, and Korean, which joins particles to them, are cut into
pairs of characters: any piece of such a text is then a row of neighbouring pairs, and a single
character is what a pair begins with. So neither dictionaries nor a locale are asked.

    query   "river bank"   every part must be there; the last word may go on ("banks")
    rank    2 the words as they stand, side by side · 1 these very words · 0 words that go on so
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

WORD_CHARS_MAX: Final = 64  # of a longer word, its beginning counts
OPEN_CHARS_MIN: Final = 3  # a shorter last word does not go on: it would find too much
PLACE_MAX: Final = 16_382  # Postgres keeps no place behind it; the term is kept
PLACES_PER_TERM_MAX: Final = 255
VECTOR_BYTES_MAX: Final = 1_000_000  # Postgres refuses a vector from 2**20 on

# Thai, Lao, Burmese, Khmer, kana, Chinese characters, Hangul.
_PAIRED: Final = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u1049\u1050-\u109f\u1780-\u17d3"
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_INDIC: Final = "\u0900-\u0963\u0966-\u0dff"  # with vowel signs, which are no letters
_PLACE: Final = re.compile(rf"(?P<run>[{_PAIRED}]+)|(?:(?![{_PAIRED}])[^\W_]|[{_INDIC}])+")
_ASCII_WORD: Final = re.compile("[a-z0-9]+")
# Runs that are folded as they are, letters written in parts, and single characters.
_PIECE: Final = re.compile(
    r"(?P<plain>[\x00-\x7f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3]+)"
    r"|[\u1100-\u115f][\u1160-\u11a7][\u11a8-\u11ff]?|.[\u3099\u309a\uff9e\uff9f]?",
    re.DOTALL,
)
# Accents, the vowel points of Hebrew and Arabic, and characters that are not seen.
_PASSED_OVER: Final = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\u00ad\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff]+"
)
_ACCENTED_BEFORE: Final = "\u0530"  # Latin, Greek, Cyrillic; and the Latin of Vietnamese:
_ACCENTED_LATIN: Final = range(0x1E00, 0x2000)
_FOLDED_MAX: Final = 8192  # characters remembered with what they are folded to


class Term(NamedTuple):
    """A term of a text: its place, and where in the text it stands."""

    term: str
    place: int  # counted from 1
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A term of a query: how far behind the query's beginning, and whether it may go on."""

    term: str
    offset: int
    open: bool = False


Part = tuple[Wanted, ...]  # terms that must stand in a row: a word is one, a run of pairs several


@dataclass(frozen=True, slots=True)
class Query:
    """What must be found: every part. Empty when the text has neither letter nor digit."""

    parts: tuple[Part, ...]

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def whole(self) -> Part:
        """All of it side by side."""
        return tuple(wanted for part in self.exact.parts for wanted in part)

    @property
    def exact(self) -> Query:
        """The same, but that its last word must not go on."""
        return Query(tuple(tuple(map(_closed, part)) for part in self.parts))


def terms_of(text: str) -> Iterator[Term]:
    """The terms of a text, in order."""
    folded, origin = _fold(text)
    pattern = _ASCII_WORD if folded.isascii() else _PLACE
    place = 1
    for found in pattern.finditer(folded):
        start, end = found.span()
        if pattern is _PLACE and found["run"]:
            for first in range(start, end):
                last = min(first + 2, end)
                yield Term(folded[first:last], place, origin[first], _end(origin, last))
                place += 1
        else:
            term = folded[start : min(end, start + WORD_CHARS_MAX)]
            yield Term(term, place, origin[start], _end(origin, end))
            place += 1


def _end(origin: Sequence[int], end: int) -> int:
    """Where a term ends in the text: with all of the character that its end was folded from."""
    last = origin[end - 1]
    while origin[end] <= last:
        end += 1
    return origin[end]


def query_of(text: str) -> Query:
    parts: list[Part] = []
    run: list[Wanted] = []
    for term in terms_of(text):
        wanted = Wanted(term.term, term.place - 1)
        if not is_paired(term.term):
            parts.append((wanted,))
        elif len(term.term) == 2:
            run.append(wanted)
        else:  # the run's last character, which its last pair has already, if there is one
            parts.append(tuple(run) or (Wanted(term.term, wanted.offset, open=True),))
            run = []
    if parts and len(parts[-1]) == 1:
        (last,) = parts[-1]
        if not is_paired(last.term) and len(last.term) >= OPEN_CHARS_MIN:
            parts[-1] = (Wanted(last.term, last.offset, open=True),)
    return Query(tuple(parts))


def is_paired(term: str) -> bool:
    """Whether it is of a script that is cut into pairs."""
    found = _PLACE.match(term)
    return found is not None and found["run"] is not None


def places_of(text: str) -> dict[str, list[int]]:
    """Each term's places, in order, as many as Postgres keeps."""
    places: dict[str, list[int]] = {}
    size = 0
    for place, term in _placed(text):
        known = places.get(term)
        if known is None:
            size += len(term.encode()) + 4
            if size > VECTOR_BYTES_MAX:
                break
            known = places[term] = []
        if place <= PLACE_MAX and len(known) < PLACES_PER_TERM_MAX:
            size += 2
            known.append(place)
    return places


def _placed(text: str) -> Iterator[tuple[int, str]]:
    """``terms_of``, without where they stand in the text, which takes most of the time."""
    if text.isascii():
        words = _ASCII_WORD.findall(text.lower())
        return enumerate((word[:WORD_CHARS_MAX] for word in words), 1)
    return ((term.place, term.term) for term in terms_of(text))


def vector_of(text: str) -> str:
    """The terms as Postgres writes a tsvector."""
    places = places_of(text)
    return " ".join(
        f"'{term}':{','.join(map(str, places[term]))}" if places[term] else f"'{term}'"
        for term in sorted(places)
    )


def tsquery(parts: Sequence[Part]) -> str:
    """Parts that must all be there, as Postgres reads a tsquery."""
    return " & ".join(f"({_row(part)})" for part in parts)


def rank_of(query: Query, text: str) -> int | None:
    """How well a text fits, from 2 down; None: it does not. Postgres computes the same."""
    places = places_of(text)
    if not all(row_at(places, part) for part in query.parts):
        return None
    exact = all(row_at(places, part) for part in query.exact.parts)
    return exact + bool(row_at(places, query.whole))


def row_at(places: Mapping[str, Sequence[int]], part: Part) -> list[int]:
    """The places of the first term of a part, wherever all of it stands in a row.

    A part of one term is found without a place, too: at 0.
    """
    first, *others = part
    if not others:
        found = [known for term, known in places.items() if _fits(first, term)]
        return sorted(place for known in found for place in known or [0])
    return [
        place
        for place in _places(places, first)
        if all(_stands(places, other, place + other.offset - first.offset) for other in others)
    ]


def _stands(places: Mapping[str, Sequence[int]], wanted: Wanted, place: int) -> bool:
    known = _places(places, wanted)
    at = bisect_left(known, place)
    return at < len(known) and known[at] == place


def _places(places: Mapping[str, Sequence[int]], wanted: Wanted) -> Sequence[int]:
    if not wanted.open:
        return places.get(wanted.term, ())
    return sorted(p for term, known in places.items() if _fits(wanted, term) for p in known)


def _fits(wanted: Wanted, term: str) -> bool:
    return term.startswith(wanted.term) if wanted.open else term == wanted.term


def _closed(wanted: Wanted) -> Wanted:
    """A single character of a run stays open: its term is whatever it begins."""
    if not wanted.open or is_paired(wanted.term):
        return wanted
    return Wanted(wanted.term, wanted.offset)


def _row(part: Part) -> str:
    text, before = "", None
    for wanted in part:
        if before is not None:
            text += f" <{wanted.offset - before}> "
        text += f"'{wanted.term}'{':*' if wanted.open else ''}"
        before = wanted.offset
    return text


def _fold(text: str) -> tuple[str, Sequence[int]]:
    """The folded text, and for each of its characters, and its end, the place in the text."""
    if text.isascii():
        return text.lower(), range(len(text) + 1)
    folded: list[str] = []
    origin: list[int] = []
    for found in _PIECE.finditer(text):
        start, end = found.span()
        if found["plain"]:
            folded.append(found[0].lower())
            origin += range(start, end)
        else:
            piece = _folded(found[0])
            folded.append(piece)
            origin += [start] * len(piece)
    origin.append(len(text))
    return "".join(folded), origin


@lru_cache(maxsize=_FOLDED_MAX)
def _folded(piece: str) -> str:
    whole = unicodedata.normalize("NFKC", piece).casefold()
    bare = "".join(map(_without_accent, whole))
    return _PASSED_OVER.sub("", bare)


def _without_accent(char: str) -> str:
    accented = char < _ACCENTED_BEFORE or ord(char) in _ACCENTED_LATIN
    return unicodedata.normalize("NFD", char) if accented else char
