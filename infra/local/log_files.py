"""The parts' logs: shown, followed, and kept from growing for ever."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

LOG_BYTES_MAX = 16 * 1024 * 1024  # per part; one older piece of that size is kept
FOLLOW_SECONDS = 0.2
TAIL_BYTES_MAX = 256 * 1024

Say = Callable[[str], None]


def last_lines(path: Path, count: int) -> list[str]:
    """The end of a log, without line ends; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES_MAX))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


def rotate(folder: Path) -> None:
    """Cut every log that is longer than LOG_BYTES_MAX, keeping what it held as `NAME.log.1`.

    The processes that write them go on: they append, so they continue at the new end. A line
    written between the copy and the cut is lost.
    """
    for path in folder.glob("*.log"):
        if path.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)


def follow(paths: Iterable[Path], say: Say) -> None:
    """Say every line that is added to the logs from now on, until interrupted."""
    ends = {path: path.stat().st_size for path in paths}
    while True:
        for path, end in ends.items():
            ends[path] = _say_added(path, end, say)
        time.sleep(FOLLOW_SECONDS)


def _say_added(path: Path, start: int, say: Say) -> int:
    with path.open("rb") as file:
        if path.stat().st_size < start:
            start = 0  # it was cut
        file.seek(start)
        whole, newline, _ = file.read().rpartition(b"\n")
    for line in whole.decode(errors="replace").splitlines():
        say(line)
    return start + len(whole) + len(newline)
