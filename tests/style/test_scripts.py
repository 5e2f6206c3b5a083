"""Every Lua script says at its head what it needs, answers and guards, and is used."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from tests.style.sources import PRODUCT, ROOT, files, modules, parsed, text

FOLDER: Final = ROOT / "shared" / "scripts"
PRELUDE: Final = "prelude.lua"
SHEBANG: Final = re.compile(r"#!lua(?: flags=[a-z-]+(?:,[a-z-]+)*)?")
HEAD_SAYS: Final = ("-- KEYS", "-- ARGV", "-- Returns", "-- Atomic ")
KEY: Final = re.compile(r"hw:")


def scripts() -> list[Path]:
    return [path for path in files() if path.parent == FOLDER and path.name != PRELUDE]


def names_used() -> set[str]:
    """The arguments of `Script("…")`."""
    return {
        argument.value
        for path in modules(*PRODUCT)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Script"
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.stem)
def test_head_says_what_a_caller_must_know(path: Path) -> None:
    shebang, *rest = text(path).splitlines()
    head = [line for line in rest[: next(i for i, row in enumerate(rest) if row[:2] != "--")]]
    assert SHEBANG.fullmatch(shebang), f"{shebang!r}: an old server must know it for a script"
    assert re.match(r"-- [A-Z].*\.$", head[0]), "the first line says what it does"
    missing = [word for word in HEAD_SAYS if not any(row.startswith(word) for row in head)]
    assert not missing


def test_scripts_are_those_that_python_names() -> None:
    assert {path.stem for path in scripts()} == names_used()


@pytest.mark.parametrize("path", [*scripts(), FOLDER / PRELUDE], ids=lambda path: path.stem)
def test_no_script_spells_a_key(path: Path) -> None:
    """Keys are handed in, or built by the prelude from a prefix that is handed in."""
    code = [line.split("--", 1)[0] for line in text(path).splitlines()]
    assert not [line for line in code if KEY.search(line)]


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.stem)
def test_only_the_prelude_builds_keys(path: Path) -> None:
    code = "\n".join(line.split("--", 1)[0] for line in text(path).splitlines())
    assert not re.search(
        r"prefix\s*\.\.|\.\.\s*':(?:job|thread|events|dirty|log|commands|dead)\b", code
    )
