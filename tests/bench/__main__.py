"""`python -m tests.bench`: Headwater beside its floor, measured in one run.

Starts everything it needs, runs the measures one after the other and writes results.md,
results.json and a PNG for each measure into a folder. What is measured is written down at once: a
measure that fails, or the end of the time, costs only what comes behind.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench import delivery
from tests.bench.machine import Machine
from tests.bench.markdown import page
from tests.bench.plots import draw
from tests.bench.report import Result, say
from tests.bench.rig import Rig, rig
from tests.bench.sizes import SIZES, USUAL, Sizes

FOLDER = Path(".headwater-bench")
MEASURES: Mapping[str, Callable[[Rig, Sizes], Result]] = {
    "unpaced": delivery.unpaced,
    "paced": delivery.paced,
}


def bench(sizes: Sizes, names: Sequence[str], folder: Path) -> dict[str, Result]:
    """Run the named measures in their order; the folder then holds what they found."""
    folder.mkdir(parents=True, exist_ok=True)
    machine, results = Machine.seen(), dict[str, Result]()
    with rig(sizes.speeches) as built:
        for name in (name for name in MEASURES if name in names):
            began = time.monotonic()
            results[name] = MEASURES[name](built, sizes)
            say(f"{name}: {time.monotonic() - began:.0f} s")
            _write(folder, sizes, machine, results)
    return results


def _write(folder: Path, sizes: Sizes, machine: Machine, results: Mapping[str, Result]) -> None:
    newest, result = list(results.items())[-1]
    if charts := result.charts():
        draw(charts, folder / f"{newest}.png")
    (folder / "results.md").write_text(page(sizes.name, machine, results))
    facts: dict[str, Any] = {"size": sizes.name, "machine": asdict(machine)}
    facts["targets"] = [asdict(one) for found in results.values() for one in found.targets()]
    facts["results"] = {name: asdict(found) for name, found in results.items()}  # pyright: ignore[reportArgumentType] -- all are dataclasses
    (folder / "results.json").write_text(json.dumps(facts, indent=2) + "\n")


@contextmanager
def bounded(seconds: float) -> Generator[None]:
    """Raises TimeoutError in the block when it takes longer."""

    def end(*_: object) -> None:
        raise TimeoutError(f"the bench has taken {seconds:.0f} s: what it has found is written")

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default=USUAL.name)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    asked = parser.parse_args()
    sizes = SIZES[asked.size]
    with bounded(sizes.seconds_max):
        bench(sizes, asked.only, asked.out)
    say((asked.out / "results.md").read_text())


if __name__ == "__main__":
    main()
