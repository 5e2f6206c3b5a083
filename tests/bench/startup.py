"""How long a cluster takes from nothing to ready: a first start, and one on data that are there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.local.cluster import LocalCluster
from tests.bench.figures import short
from tests.bench.report import Chart, Table, Target
from tests.bench.rig import PARTS, Rig, plan
from tests.bench.sizes import Sizes

SHOWN = ("valkey", "postgres", "migrate", *PARTS[2::-1])  # in the order they start


@dataclass(frozen=True)
class Start:
    """Seconds until all are ready, and of each part from its process's start to its readiness."""

    what: str
    seconds: float
    parts: dict[str, float]


@dataclass(frozen=True)
class StartUp:
    starts: Sequence[Start]

    def tables(self) -> list[Table]:
        rows = [
            [start.what, short(start.seconds), *(short(start.parts[name]) for name in SHOWN)]
            for start in self.starts
        ]
        note = "Seconds until all are ready, and of each part from its process's start."
        return [Table("Start-up", ("", "all", *SHOWN), rows, note)]

    def charts(self) -> list[Chart]:
        return []

    def targets(self) -> list[Target]:
        return []


def startup(rig: Rig, sizes: Sizes) -> StartUp:
    """The first start is the rig's own."""
    starts = [Start("first", rig.started_seconds, _parts(rig.cluster))]
    if sizes.starts_again:
        with TemporaryDirectory(prefix="headwater-bench-") as folder:
            planned = plan(Path(folder), rig.model.url, [])
            with LocalCluster(planned):
                pass
            began = time.monotonic()
            with LocalCluster(planned) as cluster:
                starts.append(Start("again", time.monotonic() - began, _parts(cluster)))
    return StartUp(starts)


def _parts(cluster: LocalCluster) -> dict[str, float]:
    keepers = [cluster.supervisor.keeper(name) for name in SHOWN]
    return {keeper.part.name: keeper.ready_seconds or 0.0 for keeper in keepers}
