"""Numbers with their spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A value, and the lowest and highest of the rounds behind it."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Figure:
        """The median of the rounds."""
        return cls(statistics.median(rounds), min(rounds), max(rounds))

    @classmethod
    def pooled(cls, rounds: Sequence[Sequence[float]], part: float) -> Figure:
        """A quantile of all samples together, and that of each round."""
        each = [quantile(samples, part) for samples in rounds]
        return cls(quantile([one for samples in rounds for one in samples], part), *_ends(each))

    def __str__(self) -> str:
        if self.low == self.high:
            return short(self.value)
        return f"{short(self.value)} ({short(self.low)}–{short(self.high)})"


def quantile(samples: Sequence[float], part: float) -> float:
    """The smallest sample that so large a part of them does not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def short(value: float) -> str:
    """With three digits that say something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ratio(value: float, to: float) -> str:
    return f"{short(value / to)} ×" if to else "–"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)
