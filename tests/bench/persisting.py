"""What the persister takes: how late it archives at a given pace, and the most it archives at all.

The events are made beforehand and go straight into the log, so that nothing else is measured. An
event is archived when Postgres shows a checkpoint at or behind it; that is looked up every
LOOK_SECONDS. The most is what it makes of a backlog, from the first commit to the last; there are
fewer looks at it.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
import uvloop

from tests.bench.cpu import CpuMeter, Spent
from tests.bench.figures import quantile, short
from tests.bench.made_up_log import LogFeed, Written, log_feed, thread_of
from tests.bench.report import Chart, Table, Target
from tests.bench.rig import Rig
from tests.bench.sizes import Sizes

TOKENS_PER_JOB = 47  # so that a job is 50 events
EVENTS_PER_JOB = TOKENS_PER_JOB + 3
LOOK_SECONDS = 0.005
BACKLOG_LOOK_SECONDS = 0.05  # looking takes from what the persister can have
ARCHIVED_SECONDS_MAX = 120.0
PARTS = ("persister-1", "postgres", "valkey")
PERSISTER = "persister-1"
CHECKPOINTS = "SELECT partition, log_ms, log_n, event_count FROM checkpoints"

LogId = tuple[int, int]


@dataclass(frozen=True)
class Lag:
    """At a pace of so many events per second. CPU in seconds per 10,000 events."""

    events_per_second: float
    wanted_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_of: dict[str, float]


@dataclass(frozen=True)
class Persisting:
    lags: Sequence[Lag]
    most_per_second: float
    most_cpu_of: dict[str, float]

    def tables(self) -> list[Table]:
        rows = [
            [short(lag.events_per_second), short(lag.p50_ms), short(lag.p99_ms), *_cpu(lag.cpu_of)]
            for lag in self.lags
        ]
        rows.append(
            [f"{short(self.most_per_second)} (the most)", "–", "–", *_cpu(self.most_cpu_of)]
        )
        head = ("events/s", "lag p50, ms", "lag p99, ms", *(f"CPU of {name}" for name in PARTS))
        note = (
            f"Jobs of {EVENTS_PER_JOB} events. Lag: from the log's time to the commit. CPU: seconds"
            " per 10,000 events. The most: a backlog, from the first commit to the last."
        )
        return [Table("The persister", head, rows, note)]

    def charts(self) -> list[Chart]:
        return []

    def targets(self) -> list[Target]:
        most = Target.at_least("persister, sustained", self.most_per_second, 60_000, "events/s")
        lags = [
            Target.at_most("persister's lag at 10,000 events/s, p99", lag.p99_ms, 250, "ms")
            for lag in self.lags
            if lag.wanted_per_second == 10_000
        ]
        return [most, *lags]


def _cpu(of: dict[str, float]) -> list[str]:
    return [short(of[name]) for name in PARTS]


@dataclass
class Watch:
    """Looks at the archive until it has taken so many events more."""

    connection: psycopg.AsyncConnection
    seen: dict[int, list[tuple[LogId, float]]] = field(default_factory=dict)
    counts: list[tuple[float, int]] = field(default_factory=list)

    async def until(self, count: int, *, every: float = LOOK_SECONDS) -> None:
        ends = time.monotonic() + ARCHIVED_SECONDS_MAX
        while not self.counts or self.counts[-1][1] < count:
            assert time.monotonic() < ends, "the persister does not come to an end"
            await self.look()
            await asyncio.sleep(every)

    async def look(self) -> int:
        """How many events the archive has."""
        rows = await (await self.connection.execute(CHECKPOINTS)).fetchall()
        now = time.time()
        for partition, ms, number, _ in rows:
            seen = self.seen.setdefault(partition, [])
            if not seen or seen[-1][0] < (ms, number):
                seen.append(((ms, number), now))
        self.counts.append((now, sum(row[3] for row in rows)))
        return self.counts[-1][1]

    def lag_ms(self, partition: int, added: LogId) -> float:
        seen = self.seen[partition]
        return seen[bisect.bisect_left(seen, (added, 0.0))][1] * 1000 - added[0]


def persisting(rig: Rig, sizes: Sizes) -> Persisting:
    return uvloop.run(_measure(rig, sizes))


async def _measure(rig: Rig, sizes: Sizes) -> Persisting:
    async with (
        log_feed(rig.cluster.redis_url) as feed,
        await psycopg.AsyncConnection.connect(rig.cluster.database_url, autocommit=True) as archive,
    ):
        lags = [
            await _lag(rig, feed, archive, pace, sizes.persister_seconds)
            for pace in sizes.persister_paces
        ]
        most, spent = await _most(rig, feed, archive, sizes.persister_backlog)
    return Persisting(lags, most, spent)


def _jobs(feed: LogFeed, count: int) -> list[Written]:
    """Each of a thread of its own."""
    made = (thread_of("nobody", turns=1, tokens=TOKENS_PER_JOB) for _ in range(count))
    return [feed.packed(thread_id, turns[0]) for thread_id, turns in made]


async def _lag(
    rig: Rig, feed: LogFeed, archive: psycopg.AsyncConnection, pace: float, seconds: float
) -> Lag:
    jobs = _jobs(feed, max(1, round(pace * seconds / EVENTS_PER_JOB)))
    events = sum(job.events for job in jobs)
    await rig.settled()
    watch, meter = Watch(archive), CpuMeter(_pids(rig))
    watching = asyncio.create_task(watch.until(await watch.look() + events))
    added: list[tuple[int, LogId]] = []
    began = time.monotonic()
    for number, job in enumerate(jobs):
        await asyncio.sleep(began + number * EVENTS_PER_JOB / pace - time.monotonic())
        added += [(job.partition, _log_id(one)) for one in await feed.add(job)]
    took = max(time.monotonic() - began, events / pace)
    await watching
    lags = [watch.lag_ms(*one) for one in added]
    cpu = _per_10k(meter.read(), events)
    return Lag(events / took, pace, quantile(lags, 0.5), quantile(lags, 0.99), cpu)


async def _most(
    rig: Rig, feed: LogFeed, archive: psycopg.AsyncConnection, backlog: int
) -> tuple[float, dict[str, float]]:
    jobs = _jobs(feed, max(1, backlog // EVENTS_PER_JOB))
    await rig.settled()
    watch = Watch(archive)
    before = await watch.look()
    supervisor = rig.cluster.supervisor
    await asyncio.to_thread(supervisor.hold, PERSISTER)
    for job in jobs:
        await feed.add(job)
    await asyncio.to_thread(supervisor.release, PERSISTER)
    await watch.until(before + 1)
    meter = CpuMeter(_pids(rig))
    began, first = watch.counts[-1]
    last = before + sum(job.events for job in jobs)
    await watch.until(last, every=BACKLOG_LOOK_SECONDS)
    seconds = max(watch.counts[-1][0] - began, BACKLOG_LOOK_SECONDS)
    counted = max(1, last - first)
    return counted / seconds, _per_10k(meter.read(), counted)


def _pids(rig: Rig) -> dict[str, int]:
    return {name: rig.cluster.pid(name) for name in PARTS}


def _per_10k(spent: Spent, events: int) -> dict[str, float]:
    return {name: seconds / events * 10_000 for name, seconds in spent.of.items()}


def _log_id(entry: bytes) -> LogId:
    milliseconds, number = entry.split(b"-")
    return int(milliseconds), int(number)
