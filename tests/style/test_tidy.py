"""House rules that no other tool looks after, over the whole checkout.

An exception to a size would be listed below, with its reason; there is none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.style import rules
from tests.style.sources import EVERYTHING, PRODUCT, ROOT, files, modules, name_of, parsed, text
from tests.style.sources import text_files as texts

MODULE_LINES_MAX: Final = 300
LONGER_MODULES: Final[dict[str, int]] = {}  # name: lines it may have
SETTINGS: Final = "shared/settings.py"
KEYS: Final = "shared/keys.py"

MACHINE_PATH: Final = re.compile(r"(?<![\w.:/@-])/(?:work|home|Users|root|tmp)/[\w.]")
REMINDER: Final = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")

Rule = Callable[[ast.Module], Iterator[rules.Finding]]


@pytest.mark.parametrize(
    ("rule", "trees", "allowed"),
    [
        (rules.long_functions, EVERYTHING, ()),
        (rules.environment_reads, PRODUCT, (SETTINGS,)),
        (rules.work_at_import, EVERYTHING, ()),
        (rules.unbounded_queues, EVERYTHING, ()),
        (rules.redis_keys, PRODUCT, (KEYS,)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_rule_is_kept(rule: Rule, trees: Iterable[str], allowed: Iterable[str]) -> None:
    broken = [
        f"{name_of(path)}:{line}: {finding}"
        for path in modules(*trees)
        if name_of(path) not in allowed
        for line, finding in rule(parsed(path))
    ]
    assert not broken, _listed(broken)


def test_modules_are_short() -> None:
    long = [
        f"{name_of(path)} has {lines} lines"
        for path in (*modules(*EVERYTHING), *_scripts())
        if (lines := len(text(path).splitlines()))
        > LONGER_MODULES.get(name_of(path), MODULE_LINES_MAX)
    ]
    assert not long, _listed(long)


def test_exceptions_are_still_needed() -> None:
    lengths = {name_of(path): len(text(path).splitlines()) for path in modules(*EVERYTHING)}
    needless = [n for n in LONGER_MODULES if lengths.get(n, 0) <= MODULE_LINES_MAX]
    assert not needless, _listed(needless)


def test_modules_are_named_for_what_they_hold() -> None:
    vague = [
        name_of(path)
        for path in modules(*EVERYTHING)
        if rules.BANNED_NAMES & {*path.relative_to(ROOT).with_suffix("").parts}
    ]
    assert not vague, _listed(vague)


def test_no_path_of_one_machine() -> None:
    assert not (found := list(_matches(MACHINE_PATH, texts()))), _listed(found)


def test_nothing_is_left_for_later() -> None:
    assert not (found := list(_matches(REMINDER, texts()))), _listed(found)


@pytest.mark.parametrize("line", ["see /home/me/a.py", "(/home/me/main)", "'/tmp/x.sock'"])
def test_machine_path_is_recognised(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize("line", ["a folder such as /root, where", "https://example.org/home/x"])
def test_other_text_is_no_machine_path(line: str) -> None:
    assert not MACHINE_PATH.search(line)


def _scripts() -> list[Path]:
    return [path for path in files() if path.suffix == ".lua"]


def _matches(pattern: re.Pattern[str], paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        if path == Path(__file__):
            continue
        for number, line in enumerate(text(path).splitlines(), start=1):
            if pattern.search(line):
                yield f"{name_of(path)}:{number}: {line.strip()[:100]}"


def _listed(lines: Iterable[str]) -> str:
    return "\n" + "\n".join(lines)
