"""The documents do not lie about what can be looked up: paths, commands, links, snippets."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.style.documents import (
    DECISIONS,
    Fence,
    anchors,
    documents,
    fences,
    links,
    names_in,
    prose,
    rows,
    section,
    spans,
)
from tests.style.generated import BLOCKS, with_blocks
from tests.style.sources import PRODUCT, ROOT, modules, name_of, parsed, text, text_files

TREES: Final = ("shared", "services", "infra", "tests", "docs", ".ci")
PATH: Final = re.compile(
    rf"(?:{'|'.join(map(re.escape, TREES))})/[\w./*-]*|[\w.-]+\.(?:md|toml|in)"
)
NAMED: Final = re.compile(
    r"(?<![\w./-])(?:shared|services|infra|tests|docs)/[\w./-]+\.(?:py|md|lua)"
)
TARGET: Final = re.compile(r"\bmake ([a-z]+(?:-[a-z]+)*)\b")
PROGRAM: Final = re.compile(r"python -m ([\w.]+)")
ASSIGNED: Final = re.compile(r"\bHEADWATER_[A-Z_]+\b")
DECISION: Final = re.compile(r"(\d{4})-[a-z0-9-]+\.md")
DECISION_SAYS: Final = ("Context", "Options", "Choice", "Consequences")
COMMAND: Final = re.compile(r"^\$ (.+(?:\\\n.*)*)", re.MULTILINE)
GUARANTEES: Final = ROOT / "docs" / "guarantees.md"
TEST_LINK: Final = re.compile(r"\[`(test_\w+)`\]\(([^)]+)\)")
FAULT_ROWS: Final = [f"{number:02d}" for number in range(1, 25)]

ALL_FENCES: Final = [fence for document in documents() for fence in fences(document)]
every_document = pytest.mark.parametrize("document", documents(), ids=name_of)


def of_language(*languages: str) -> pytest.MarkDecorator:
    chosen = [fence for fence in ALL_FENCES if fence.language in languages]
    return pytest.mark.parametrize("fence", chosen, ids=lambda fence: fence.place)


@every_document
def test_paths_in_prose_exist(document: Path) -> None:
    named = [span.rstrip("/") for span in spans(document) if PATH.fullmatch(span)]
    assert not [path for path in named if not list(ROOT.glob(path))]


def test_paths_named_in_code_exist() -> None:
    missing = [
        f"{name_of(path)}: {named}"
        for path in text_files()
        if ROOT / "tests" / "style" not in path.parents
        for named in NAMED.findall(text(path))
        if not (ROOT / named).exists()
    ]
    assert not missing, missing


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    for link in links(document):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


@every_document
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    commands = [*spans(document), *(fence.body for fence in fences(document))]
    named = {target for command in commands for target in TARGET.findall(command)}
    assert named <= targets


@every_document
def test_programs_exist(document: Path) -> None:
    for program in PROGRAM.findall(text(document)):
        assert find_spec(program) is not None, program


@every_document
def test_variables_exist(document: Path) -> None:
    # Those of every process, and those of compose.yaml and its proxy.
    places = ("docs/settings.md", "compose.yaml", "infra/container/haproxy.cfg")
    known = {name for place in places for name in ASSIGNED.findall(text(ROOT / place))}
    assert set(ASSIGNED.findall(text(document))) <= known


@pytest.mark.parametrize("document", {path for path, _ in BLOCKS}, ids=name_of)
def test_generated_parts_are_up_to_date(document: Path) -> None:
    fresh = with_blocks(document, text(document))
    assert fresh == text(document), "run: python -m tests.style.generated"


@of_language("bash")
def test_shell_snippet_is_shell(fence: Fence) -> None:
    _bash(fence.body)


@of_language("console")
def test_commands_of_a_session_are_shell(fence: Fence) -> None:
    commands = COMMAND.findall(fence.body)
    assert commands, "a session shows at least one command, behind `$ `"
    for command in commands:
        _bash(command)


@of_language("json")
def test_json_snippet_is_json(fence: Fence) -> None:
    json.loads(fence.body)


@of_language("yaml")
def test_yaml_snippet_is_yaml(fence: Fence) -> None:
    assert yaml.safe_load(fence.body)


@of_language("python")
def test_python_snippet_compiles(fence: Fence) -> None:
    compile(fence.body, fence.place, "exec")


@of_language("javascript")
def test_javascript_snippet_parses(fence: Fence) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here")
    command = [node, "--input-type=module", "--check"]
    subprocess.run(command, input=fence.body, text=True, check=True, timeout=30)


def test_every_fence_names_its_language() -> None:
    known = {"bash", "console", "javascript", "json", "python", "text", "yaml"}
    assert not [fence.place for fence in ALL_FENCES if fence.language not in known]


def test_decisions_are_numbered_once_and_without_hole() -> None:
    names = sorted(path.name for path in DECISIONS.iterdir())
    numbers = [match[1] for name in names if (match := DECISION.fullmatch(name))]
    assert len(numbers) == len(names), names
    assert numbers == [f"{number:04d}" for number in range(1, len(names) + 1)]


@pytest.mark.parametrize("document", sorted(DECISIONS.glob("*.md")), ids=lambda path: path.stem)
def test_decision_says_why(document: Path) -> None:
    title = text(document).splitlines()[0]
    assert title.startswith(f"# {document.name[:4]} "), title
    for heading in DECISION_SAYS:
        assert section(document, heading).strip(), heading


def test_decisions_are_found_from_the_architecture() -> None:
    linked = {Path(link).name for link in links(ROOT / "ARCHITECTURE.md") if "decisions/" in link}
    assert linked == {path.name for path in DECISIONS.iterdir()}


def test_log_lines_named_in_operations_are_written() -> None:
    table = section(ROOT / "docs" / "operations.md", "Logs")
    written = {
        call.args[0].value
        for path in modules(*PRODUCT)
        for call in ast.walk(parsed(path))
        if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("log.")
        if call.args and isinstance(call.args[0], ast.Constant)
    }
    named = {names_in(row[0])[0] for row in rows(table)}
    assert named
    assert named <= written


def test_tests_that_guarantees_name_are_where_they_are_linked() -> None:
    named = TEST_LINK.findall(text(GUARANTEES))
    links_to = {path: _tests_of((GUARANTEES.parent / path).resolve()) for _, path in named}
    assert not [(test, path) for test, path in named if test not in links_to[path]]
    loose = {span for span in spans(GUARANTEES) if span.startswith("test_")}
    assert loose == {test for test, _ in named}, "each is a link"


def test_guarantees_name_every_row_of_the_fault_suite() -> None:
    figures = rows(section(GUARANTEES, "Figures"))
    told = [row for row in rows(section(GUARANTEES, "Under which faults")) if row not in figures]
    assert [row[0] for row in told] == sorted({row[0] for row in figures}) == FAULT_ROWS
    said = [f"{row[0]} {row[1]}" for row in figures]
    known = _row_names()
    assert not [name for name in said if not any(one.fullmatch(name) for one in known)]
    assert not [one.pattern for one in known if not any(map(one.fullmatch, said))]


@every_document
def test_prose_speaks_of_nothing_to_come_but_in_its_list(document: Path) -> None:
    """What is not there yet has one place: the list in README.md."""
    promise = re.search(r"\b(?:will soon|coming soon|in a future|planned for)\b", prose(document))
    assert promise is None, promise


def _tests_of(path: Path) -> set[str]:
    found = ast.walk(parsed(path))
    return {one.name for one in found if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def _row_names() -> list[re.Pattern[str]]:
    """What the rows of the fault suite are called; a field of an f-string is anything."""
    names = [
        call.args[0]
        for path in sorted((ROOT / "tests" / "faults").glob("test_*.py"))
        for call in ast.walk(parsed(path))
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "row"
    ]
    written = [
        "".join(
            re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".+" for p in _parts(name)
        )
        for name in names
    ]
    return [re.compile(name) for name in written if not name.startswith(("control", "beside"))]


def _parts(name: ast.expr) -> list[ast.expr]:
    return name.values if isinstance(name, ast.JoinedStr) else [name]


def _bash(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=30)
