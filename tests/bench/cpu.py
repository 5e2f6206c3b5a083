"""CPU seconds of processes, with all their threads, and of the whole machine. Linux only: /proc.

A process's own come from the scheduler's account (`schedstat`, nanoseconds); those of children that
have ended, such as Postgres' workers, from their parent's, in clock ticks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NANOSECONDS = 1e9
TICKS = os.sysconf("SC_CLK_TCK")
SATURATED = 0.9  # of all cores


def cpu_seconds(pid: int) -> float:
    """Seconds on a CPU so far, children included, those that have ended too."""
    spent = 0.0
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            spent += int((task / "schedstat").read_text().split()[0]) / NANOSECONDS
            for child in (task / "children").read_text().split():
                spent += cpu_seconds(int(child))
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent += (int(stat[13]) + int(stat[14])) / TICKS  # cutime, cstime
    return spent


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used between two looks, in CPU seconds."""

    of: Mapping[str, float]  # named processes
    own: float  # this process: the client
    machine: float  # everybody, the kernel included
    seconds: float  # of the clock

    @property
    def busy(self) -> float:
        """0 to 1: the part of all cores that was in use."""
        return min(1.0, self.machine / (self.seconds * cores()))

    @property
    def foreign(self) -> float:
        """0 to 1: the part of all cores that others used, who have nothing to do with this."""
        others = self.machine - self.own - sum(self.of.values())
        return max(0.0, others / (self.seconds * cores()))


class CpuMeter:
    """What each named process has used since the meter was made, or last read."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._before = self._look()

    def read(self) -> Spent:
        before, now = self._before, self._look()
        self._before = now
        spent = {name: now[0][name] - before[0][name] for name in now[0]}
        return Spent(spent, *(b - a for a, b in zip(before[1:], now[1:], strict=True)))

    def _look(self) -> tuple[dict[str, float], float, float, float]:
        named = {name: cpu_seconds(pid) for name, pid in self._pids.items()}
        return named, time.process_time(), _machine_seconds(), time.monotonic()


def cores() -> int:
    return len(os.sched_getaffinity(0))


def _machine_seconds() -> float:
    """user nice system idle iowait irq softirq steal, of all cores since the machine's start."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / TICKS
