"""The services' logs, from a moment on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.cluster import LocalCluster

TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Logs:
    """Their files, and where each was when this began."""

    paths: dict[str, Path]
    starts: dict[str, int]

    @classmethod
    def from_now(cls, cluster: LocalCluster) -> Logs:
        """What the services of a cluster write after this."""
        paths = {name: cluster.plan.log_of(name) for name in cluster.plan.service_names}
        return cls(paths, {name: path.stat().st_size for name, path in paths.items()})

    def text(self, name: str) -> str:
        """What one service has written since."""
        with self.paths[name].open("rb") as file:
            file.seek(self.starts[name])
            return file.read().decode(errors="replace")

    def said(self, event: str, *, by: str = "") -> list[dict[str, Any]]:
        """The structured lines that say `event`, of one service or of all."""
        needle = f'"event": {json.dumps(event)}'
        lines = [line for name in ([by] if by else self.paths) for line in self._lines(name)]
        return [json.loads(line) for line in lines if needle in line]

    def tracebacks(self) -> list[tuple[str, str]]:
        """Service and text of each Traceback."""
        found: list[tuple[str, str]] = []
        for name in self.paths:
            lines = self._lines(name)
            for number, line in enumerate(lines):
                if TRACEBACK in line:
                    found.append((name, "\n".join(lines[number : number + 30])))
        return found

    def _lines(self, name: str) -> list[str]:
        return self.text(name).splitlines()
