"""The files of this checkout that a person wrote, as the style tests read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PRODUCT: Final = ("shared", "services", "infra")
EVERYTHING: Final = (*PRODUCT, "tests")
KEPT_HIDDEN: Final = frozenset({".ci", ".importlinter", ".gitignore", ".github"})


@cache
def files() -> tuple[Path, ...]:
    """Every file but what tools and clusters leave behind."""
    return tuple(sorted(path for path in _below(ROOT) if path.is_file()))


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name == "__pycache__" or _is_left_behind(path):
            continue
        if path.is_dir():
            yield from _below(path)
        else:
            yield path


def _is_left_behind(path: Path) -> bool:
    return path.name.startswith(".") and path.name not in KEPT_HIDDEN


def text_files() -> list[Path]:
    """The files that hold text."""
    return [path for path in files() if _text(path) is not None]


@cache
def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def text(path: Path) -> str:
    found = _text(path)
    assert found is not None, f"{path} is not text"
    return found


def modules(*trees: str) -> list[Path]:
    """The Python files of some top folders."""
    return [p for p in files() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in trees]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(text(path))


def name_of(path: Path) -> str:
    """As a person would write it: from the root of the checkout."""
    return str(path.relative_to(ROOT))
