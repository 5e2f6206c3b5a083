"""Results as a page: targets, then each measure's tables and its plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tests.bench.machine import Machine
from tests.bench.report import Result, Table, Target

MET = {True: "met", False: "**not met**"}


def page(name: str, machine: Machine, results: Mapping[str, Result]) -> str:
    """``name`` is the size of the run."""
    blocks = [f"# Bench, {name}", _list(machine.lines())]
    targets = [target for result in results.values() for target in result.targets()]
    if targets:
        blocks += ["## Targets", _targets(targets)]
    for measure, result in results.items():
        blocks.append(f"## {measure}")
        if result.charts():
            blocks.append(f"![{measure}]({measure}.png)")
        for table in result.tables():
            blocks += [f"### {table.title}", _table(table), *([table.note] if table.note else [])]
    return "\n\n".join(blocks) + "\n"


def _targets(targets: Iterable[Target]) -> str:
    rows = [(one.what, one.limit, one.figure, MET[one.met]) for one in targets]
    return _table(Table("", ("", "target", "figure", ""), rows))


def _table(table: Table) -> str:
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
