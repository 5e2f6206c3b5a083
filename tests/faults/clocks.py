"""A fault: wall clocks that jump."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.history import History

HOUR = 3600.0


@contextmanager
def jumped(folder: Path, history: History, **seconds: float) -> Generator[None]:
    """For the length of the block these clocks are off; `_` in a name stands for `-`."""
    clocks = {folder / name.replace("_", "-"): off for name, off in seconds.items()}
    named = " ".join(f"{path.name} {off:+g} s" for path, off in clocks.items())
    history.add("fault", name=f"clocks {named}", phase="begin")
    try:
        for path, off in clocks.items():
            _set(path, off)
        yield
    finally:
        for path in clocks:
            _set(path, 0)
        history.add("fault", name=f"clocks {named}", phase="end")


def _set(path: Path, seconds: float) -> None:
    """Never half of it: whoever reads it finds the old or the new."""
    new = path.with_suffix(".new")
    new.write_text(f"{seconds:+g}")
    new.replace(path)
