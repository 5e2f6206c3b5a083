"""A row of the fault matrix: a cluster, users at work, faults, and the judgement over it all.

    async with arena.row("01 kill -9 orchestrator") as row:
        await row.users.stream(6)               # six answers, all in mid-stream
        row.faults.kill("orchestrator-1")
    assert row.figures.longest_pause_seconds < …

Leaving the block waits until every part is up, every viewer has its `done` and nothing is pending,
asks three more questions, collects, and fails if the oracle finds a violation in what was recorded.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.local.cluster import LocalCluster
from tests.faults.collect import Collector
from tests.faults.figures import Figures, figures
from tests.faults.history import History, Record, load
from tests.faults.logs import Logs
from tests.faults.nemeses import Nemeses
from tests.faults.oracle import Violation, check
from tests.faults.workload import Job, Workload


@dataclass(frozen=True)
class Options:
    """What the command line asks for. `outage_seconds` is the length of an outage.

    `long`: whether it may take its time.
    """

    seed: int
    report: Path | None
    outage_seconds: float
    storm_seconds: float
    long: bool


class Violated(AssertionError):
    """The oracle found what must not be."""

    def __init__(self, violations: list[Violation], path: Path) -> None:
        told = [f"{one.invariant} {one.subject}: {one.text}" for one in violations]
        super().__init__("\n".join([f"{len(told)} violations, history {path}", *told]))
        self.violations = violations


class Row:
    """One row while it runs. `figures` and `records` are there once its block has ended."""

    def __init__(
        self, cluster: LocalCluster, history: History, users: Workload, random: random.Random
    ) -> None:
        self.cluster = cluster
        self.history = history
        self.users = users
        self.random = random
        self.faults = Nemeses(cluster, history)
        self.logs = Logs.from_now(cluster)
        self.records: list[Record] = []

    @property
    def figures(self) -> Figures:
        return figures(self.records)

    def expect(
        self,
        *,
        status: Collection[str] = (),
        codes: Collection[str] = (),
        waived: Collection[int] = (),
    ) -> None:
        """Declare what this fault may lead to: final statuses other than `done`, codes of problems
        that a client may be answered with, or an invariant that cannot hold (say why, there)."""
        facts = {"status": sorted(status), "codes": sorted(codes), "waived": sorted(waived)}
        self.history.add("expect", **facts)

    def doom(self, job: Job, *status: str) -> None:
        """Declare that this job ends so, and must not end as others do."""
        self.history.add("fate", job_id=job.job_id, status=sorted(status))

    async def judge(self) -> list[Violation]:
        """Wait for the end of it all, collect, and ask the oracle."""
        await self.faults.healed()
        await self.users.finished()
        collector = Collector(self.cluster, self.users, self.logs, self.random)
        await collector.quiet()
        await collector.tail()
        await collector.quiet()
        await collector.everything()
        return check(load(self.history.path))


class Arena:
    """The cluster and the options of one test; histories go to `folder`."""

    def __init__(self, cluster: LocalCluster, options: Options, folder: Path) -> None:
        self.cluster = cluster
        self.options = options
        self._folder = folder

    @asynccontextmanager
    async def row(self, name: str) -> AsyncGenerator[Row]:
        """Run a row; raises Violated at the end of the block."""
        chance = random.Random(f"{self.options.seed} {name}")
        path = self._folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.jsonl"
        with History(path) as history:
            history.add("row", name=name, seed=self.options.seed)
            cluster = self.cluster
            async with Workload(history, cluster.urls, cluster.token, chance) as users:
                row, result = Row(cluster, history, users, chance), "broke off"
                try:
                    yield row
                    violations = await row.judge()
                    result = "failed" if violations else "passed"
                finally:
                    row.records = load(path)
                    self._report(name, result, row.figures)
        if violations:
            raise Violated(violations, path)

    def _report(self, name: str, result: str, figures: Figures) -> None:
        sys.stdout.write(
            f"\nrow {name}: {result}, longest pause {figures.longest_pause_seconds:.2f} s,"
            f" attempts {figures.attempts_max}, {figures.jobs} jobs, {figures.seconds:.1f} s,"
            f" seed {self.options.seed}\n"
        )
        if self.options.report is not None:
            line = {"row": name, "result": result, "seed": self.options.seed, **asdict(figures)}
            with self.options.report.open("a") as file:
                file.write(json.dumps(line) + "\n")
