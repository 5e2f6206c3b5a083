"""CPU seconds of processes, with all their threads, from the scheduler's own account."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

NANOSECONDS = 1e9


def cpu_seconds(pid: int) -> float:
    """Seconds on a CPU so far, children included. Linux only: /proc/<pid>/task/*/schedstat."""
    spent = 0.0
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            spent += int((task / "schedstat").read_text().split()[0]) / NANOSECONDS
            for child in (task / "children").read_text().split():
                spent += cpu_seconds(int(child))
    return spent


class CpuMeter:
    """What each named process has used since the meter was made, or last read."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._before = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def read(self) -> dict[str, float]:
        now = {name: cpu_seconds(pid) for name, pid in self._pids.items()}
        spent = {name: now[name] - self._before[name] for name in now}
        self._before = now
        return spent
