"""What a measure hands over: tables, charts and targets, ready to be written down."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Table:
    """``note`` says how it was measured."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Both axes are logarithmic: what is asked is how a figure grows."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class Target:
    what: str
    limit: str
    figure: str
    met: bool

    @classmethod
    def at_most(cls, what: str, figure: float, limit: float, unit: str) -> Target:
        return cls(what, f"≤ {limit:g} {unit}", f"{figure:.3g} {unit}", figure <= limit)

    @classmethod
    def at_least(cls, what: str, figure: float, limit: float, unit: str) -> Target:
        return cls(what, f"≥ {limit:,.0f} {unit}", f"{figure:,.0f} {unit}", figure >= limit)


class Result(Protocol):
    """A frozen dataclass; its fields are what stands in the JSON."""

    def tables(self) -> list[Table]: ...

    def charts(self) -> list[Chart]: ...

    def targets(self) -> list[Target]: ...


def say(line: str) -> None:
    """How far the bench is."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
