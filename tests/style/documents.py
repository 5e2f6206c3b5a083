"""The project's Markdown, taken apart: prose, code spans, links, fenced blocks, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.style.sources import ROOT, files, name_of, text

PROTOCOL: Final = ROOT / "docs" / "protocol.md"
SETTINGS: Final = ROOT / "docs" / "settings.md"
DECISIONS: Final = ROOT / "docs" / "decisions"

_FENCE: Final = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"`([^`\n]+)`")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^(#+) +(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block; ``place`` names it in a test's report."""

    place: str
    language: str
    body: str


def documents() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


def fences(document: Path) -> Iterator[Fence]:
    whole = text(document)
    for match in _FENCE.finditer(whole):
        line = whole.count("\n", 0, match.start()) + 1
        yield Fence(f"{name_of(document)}:{line}", match[1], match[2])


def prose(document: Path) -> str:
    """Everything but the fenced blocks."""
    return _FENCE.sub("", text(document))


def spans(document: Path) -> list[str]:
    return _SPAN.findall(prose(document))


def links(document: Path) -> list[str]:
    return _LINK.findall(prose(document))


def anchors(document: Path) -> set[str]:
    """The names that a hosting site gives to the headings."""
    headings = [match[2] for match in _HEADING.finditer(prose(document))]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(document: Path, heading: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    whole = text(document)
    found = next((m for m in _HEADING.finditer(whole) if m[2] == heading), None)
    assert found is not None, f"{name_of(document)} has no heading {heading!r}"
    level = len(found[1])
    rest = whole[found.end() :]
    following = next((m for m in _HEADING.finditer(rest) if len(m[1]) <= level), None)
    return rest[: following.start()] if following else rest


def rows(markdown: str) -> list[list[str]]:
    """The cells of every table row, header rows excluded."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = {i for i, row in enumerate(cells) if set("".join(row)) <= {"-", ":"}}
    return [row for i, row in enumerate(cells) if i not in rules and i + 1 not in rules]


def names_in(cell: str) -> list[str]:
    """The code spans of a cell."""
    return _SPAN.findall(cell)
