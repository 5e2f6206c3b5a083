"""Made-up text in several scripts, with the few words in it that a search is measured with.

Words are drawn by Zipf's law from vocabularies that are the same in every process.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from functools import cache

RARE = "quetzalcoatl"  # once in 30,000 messages
RARE_SHARE = 1 / 30_000
COMMON, TOPIC = "the", "river"  # in most messages of the language; in some
KOREAN_PAIR = "한국"
KOREAN_PHRASE = "한국어 공부"
VOCABULARY = 20_000  # draws; some come twice


@dataclass(frozen=True)
class Language:
    share: float
    letters: tuple[str, ...]  # syllables, or characters
    syllables: tuple[int, ...]  # of a word
    frequent: tuple[str, ...]  # its commonest words, from the first on
    ends: tuple[str, ...] = ("",)  # what is joined to a word
    between: str = " "
    words: tuple[int, int] = (12, 60)  # of an answer


def _syllables(heads: str, tails: str) -> tuple[str, ...]:
    return tuple(a + b for a in heads for b in tails)


def _range(first: int, count: int) -> tuple[str, ...]:
    return tuple(chr(first + n * 7) for n in range(count))


LANGUAGES = (
    Language(
        0.50, _syllables("bcdfghlmnprstvw", "aeiou"), (1, 2, 2, 3, 4),
        (COMMON, "of", "and", "to", "a", "in", "is", "you", "that", "it", "for", "with", "can",
         "this", "your", "how", "what", "are", "use", "water", TOPIC, "bank", "city", "stream"),
        ("", "", "", "s", "ing", "ed"),
    ),
    Language(
        0.22, _range(0xAC00, 900), (1, 2, 2, 3),
        ("이", "그", "수", "있는", "사람", "우리", KOREAN_PAIR, "한국어", "공부", "서울", "나라"),
        ("", "은", "는", "을", "를", "에서", "의", "로"), words=(8, 40),
    ),
    Language(
        0.08, _range(0x3042, 11) + _range(0x30A2, 11) + _range(0x4E00, 600), (1, 2, 2, 3),
        ("の", "は", "東京", "日本", "です", "ます"), between="", words=(15, 60),
    ),
    Language(
        0.06, _range(0x4E00, 1500), (1, 2, 2), ("的", "是", "我们", "中国", "北京"),
        between="", words=(20, 80),
    ),
    Language(
        0.06, _syllables("бвгдзклмнпрст", "аеиоуя"), (2, 3, 4),
        ("и", "в", "не", "на", "река", "что"), ("", "ы", "ом", "ами"),
    ),
    Language(
        0.06, _syllables("bcdfglmnprst", "aeiouéèüö"), (2, 3),
        ("de", "la", "le", "et", "café", "été", "für", "über"), ("", "e", "en", "s"),
    ),
    Language(0.02, (*_range(0x0E01, 6), "ร", "น", "ก"), (2, 3, 4), ("ที่", "ไทย"), between=""),
)  # fmt: skip


@cache
def _vocabulary(language: Language) -> tuple[list[str], list[float]]:
    chance = random.Random(f"words of {language.frequent[0]}")
    drawn = dict.fromkeys(language.frequent)
    for _ in range(VOCABULARY):
        stem = "".join(chance.choices(language.letters, k=chance.choice(language.syllables)))
        drawn[stem + chance.choice(language.ends)] = None
    words = list(drawn)
    weights = itertools.accumulate(1 / (rank + 2) for rank in range(len(words)))
    return words, list(weights)


class Writer:
    """Writes in one language, chosen by chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        shares = [language.share for language in LANGUAGES]
        (self._language,) = chance.choices(LANGUAGES, shares)

    def title(self) -> str:
        return self._text(4)

    def question(self) -> str:
        return self._text(self._chance.randint(4, 18)) + "?"

    def answer(self) -> str:
        return self._text(self._chance.randint(*self._language.words)) + "."

    def _text(self, count: int) -> str:
        vocabulary, weights = _vocabulary(self._language)
        words = self._chance.choices(vocabulary, cum_weights=weights, k=count)
        if self._chance.random() < RARE_SHARE:
            words[count // 2] = f" {RARE} "
        return self._language.between.join(words)
