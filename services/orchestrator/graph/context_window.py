"""What of a thread's history a model can hold, in tokens that are estimated. Pure.

Nothing here knows the model's tokenizer, so tokens are estimated from bytes, and rather too many.
By the bundled model's tokenizer, whose vocabulary is small, a token is

    5.1 letters of English prose     1.2 bytes of Korean     1.0 digits
    3.6 characters of Python         1.6 bytes of Chinese    1.7 characters of JSON

so a letter counts a third of a token, a mark half of one, a digit and every byte that is not ASCII
a whole one. Models with greater vocabularies need less; an agent's ``context_tokens`` may say more.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from shared.archive import Turn

TOKENS_PER_MESSAGE: Final = 8  # role and separators of common chat templates
CUT: Final = " …"

_LETTERS: Final = (string.ascii_letters + string.whitespace).encode()
_MARKS: Final = string.punctuation.encode()


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a history is shown: its beginning in other words, its newest turns whole.

    ``begins`` is the position of the first turn that is shown whole, or of the question, if there
    is something in front of it that is not.
    """

    summary: str
    turns: Sequence[Turn]
    begins: int | None = None


def estimate_tokens(text: str) -> int:
    """Of a message; never less than one."""
    data = text.encode()
    unlike_letters = data.translate(None, _LETTERS)
    others = len(unlike_letters.translate(None, _MARKS))
    letters, marks = len(data) - len(unlike_letters), len(unlike_letters) - others
    return (2 * letters + 3 * marks + 6 * others) // 6 + TOKENS_PER_MESSAGE


def cost(turns: Iterable[Turn]) -> int:
    """Tokens of questions and answers."""
    return sum(estimate_tokens(t.question) + estimate_tokens(t.answer or "") for t in turns)


def newest(turns: Sequence[Turn], room: int) -> list[Turn]:
    """As many of the newest turns as there is room for, whole and without a hole between them."""
    kept: list[Turn] = []
    for turn in reversed(turns):
        room -= cost([turn])
        if room < 0:
            break
        kept.append(turn)
    return kept[::-1]


def clip(text: str, tokens: int) -> str:
    """As much of the text's beginning as so many tokens hold; '' if that is next to nothing."""
    if estimate_tokens(text) <= tokens:
        return text
    low, high = 0, len(text)
    while low < high:  # the longest piece that fits
        middle = (low + high + 1) // 2
        if estimate_tokens(text[:middle] + CUT) <= tokens:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + CUT if low else ""
