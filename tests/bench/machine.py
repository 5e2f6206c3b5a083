"""On what it was measured: the machine, and the versions of what ran."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from infra.local.postgres import find_programs
from infra.local.valkey import find_server
from tests.bench.cpu import cores

PACKAGES = (
    "aiohttp",
    "faststream",
    "hiredis",
    "langgraph",
    "litestar",
    "redis",
    "uvicorn",
    "uvloop",
)
ASK_SECONDS_MAX = 10.0


@dataclass(frozen=True)
class Machine:
    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    valkey: str
    postgres: str
    packages: dict[str, str]
    commit: str  # "-dirty" behind it: with changes
    load_before: float  # 1-minute load average, before anything was started

    @classmethod
    def seen(cls) -> Machine:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return cls(
            processor=_processor(),
            cores=cores(),
            memory_gib=round(pages / 2**30, 1),
            system=platform.platform(),
            python=sys.version.split()[0],
            valkey=_said([str(find_server()), "--version"]),
            postgres=_said([str(find_programs() / "postgres"), "--version"]),
            packages={name: version(name) for name in PACKAGES},
            commit=_said(["git", "describe", "--always", "--dirty", "--exclude", "*"]),
            load_before=round(os.getloadavg()[0], 2),
        )

    def lines(self) -> list[str]:
        """As a list of what was what."""
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return [
            f"machine: {self.cores} cores of {self.processor}, {self.memory_gib} GiB",
            f"system: {self.system}",
            f"servers: {self.valkey}; {self.postgres}; Python {self.python}",
            f"packages: {packages}",
            f"Headwater: {self.commit}; load average before: {self.load_before}",
        ]


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _said(command: list[str]) -> str:
    """The first line of what a program says; nothing where there is no such program."""
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=ASK_SECONDS_MAX
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.stdout.split("\n", 1)[0]
