"""The bench still works: every measure once, small, from the command line. No figure is judged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SECONDS_MAX = 240
PNG = b"\x89PNG\r\n"


@pytest.mark.bench
@pytest.mark.timeout(SECONDS_MAX + 30)
def test_every_measure_finds_something(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--size", "smoke", "--out", str(tmp_path)]
    subprocess.run(command, check=True, timeout=SECONDS_MAX, stdout=subprocess.DEVNULL)
    found = json.loads((tmp_path / "results.json").read_text())
    page = (tmp_path / "results.md").read_text()
    for name, result in found["results"].items():
        assert f"## {name}" in page
        numbers = list(_numbers(result))
        assert numbers, name
        assert all(math.isfinite(number) for number in numbers), name
        if f"{name}.png" in page:
            assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)
    assert found["targets"]


def _numbers(node: Any) -> Iterator[float]:
    if isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from _numbers(inner)
    elif isinstance(node, int | float):
        yield node
