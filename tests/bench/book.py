"""The folder of results: what has been found so far, as a page, as JSON and as plots."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from tests.bench.machine import Machine
from tests.bench.markdown import page
from tests.bench.plots import draw
from tests.bench.report import Result, say
from tests.bench.sizes import Sizes


class Book:
    """Opened before anything runs: it notes the machine as it was."""

    def __init__(self, sizes: Sizes, folder: Path) -> None:
        self._sizes, self._folder = sizes, folder
        self._machine, self._results = Machine.seen(), dict[str, Result]()
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, measure: Callable[[], Result]) -> None:
        """Measure, and write it down."""
        began = time.monotonic()
        result = self._results[name] = measure()
        say(f"{name}: {time.monotonic() - began:.0f} s")
        if charts := result.charts():
            draw(charts, self._folder / f"{name}.png")
        written = page(self._sizes.name, self._machine, self._results)
        (self._folder / "results.md").write_text(written)
        (self._folder / "results.json").write_text(json.dumps(self._facts(), indent=2) + "\n")

    def _facts(self) -> dict[str, Any]:
        found = self._results
        return {
            "size": self._sizes.name,
            "machine": asdict(self._machine),
            "targets": [asdict(one) for result in found.values() for one in result.targets()],
            "results": {name: asdict(cast("Any", result)) for name, result in found.items()},
        }
