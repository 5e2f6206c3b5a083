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
from tests.bench.rig import PARTS, plan
from tests.bench.sizes import Sizes
from tests.support.model_process import model_process

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


def startup(_: Sizes) -> StartUp:
    with TemporaryDirectory(prefix="headwater-bench-") as folder, model_process() as model_url:
        planned = plan(Path(folder), model_url, [])
        return StartUp([_start(LocalCluster(planned), what) for what in ("first", "again")])


def _start(cluster: LocalCluster, what: str) -> Start:
    began = time.monotonic()
    with cluster:
        seconds = time.monotonic() - began
        keepers = [cluster.supervisor.keeper(name) for name in SHOWN]
        parts = {keeper.part.name: keeper.ready_seconds or 0.0 for keeper in keepers}
    return Start(what, seconds, parts)
