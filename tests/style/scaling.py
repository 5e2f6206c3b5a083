"""What docs/scaling.md reckons from its own table of figures: change one, and run `generated`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from shared.postgres import POOL_CONNECTIONS
from tests.style.documents import names_in, rows, section
from tests.style.sources import ROOT

SCALING: Final = ROOT / "docs" / "scaling.md"
STEPS: Final = (1_000, 10_000, 100_000, 1_000_000)
POLLS_OF_WORKER: Final = 6  # a second and partition: 2 reads, 4 looks at idle entries
POLLS_OF_PERSISTER: Final = 7  # 1 read, 2 looks at idle entries, 4 whether Redis was restarted
PARTITIONS_MIN: Final = 8
PARTITIONS_PER_SHARD: Final = 2
OTHER_CONNECTIONS: Final = 6  # of a process to Redis, those of its readers apart

Figures = Mapping[str, float]


def figures() -> Figures:
    table = rows(section(SCALING, "Figures"))
    return {names_in(row[0])[0]: float(row[1].replace(",", "")) for row in table}


def steps(grouped: float) -> list[tuple[str, list[str]]]:
    """A line for each quantity, its value at each step; ``grouped`` tokens share an event."""
    columns = [_cell(streams, {**figures(), "grouped": grouped}) for streams in STEPS]
    return [(name, [column[name] for column in columns]) for name in columns[0]]


def _cell(streams: int, f: Figures) -> dict[str, str]:
    all_events = streams * f["tokens"] / f["grouped"]
    cells = math.ceil(all_events / f["rows"])
    streams_here = streams / cells
    events = all_events / cells
    gateways = _at_least_two(
        _cores(events * f["gateway_cpu"], f), streams_here * (1 + f["idle"]) / f["clients_max"]
    )
    workers = _at_least_two(_cores(events * f["worker_cpu"], f), streams_here / f["jobs_max"])
    persisters = _at_least_two(_cores(events * f["persister_cpu"], f))
    shards, partitions, polls = _redis(events, workers, persisters, f)
    readers = 2 * partitions + OTHER_CONNECTIONS
    return {
        "events a second": _number(all_events),
        "**cells**": f"**{cells:,}**",
        "streams of a cell": _number(streams_here),
        "gateways": f"{gateways:,}",
        "orchestrators": f"{workers:,}",
        "persisters": f"{persisters:,}",
        "Redis primaries": f"{shards:,}",
        "partitions": f"{partitions:,}",
        "of Redis' time, idle polls": f"{polls:.0%}",
        "Redis memory, GiB": _number(_memory(streams_here, f) / 2**30),
        "Redis connections": f"{(workers + persisters) * readers + gateways * OTHER_CONNECTIONS:,}",
        "Postgres cores": f"{max(1, math.ceil(_cores(events * f['postgres_cpu'], f))):,}",
        "Postgres connections": f"{POOL_CONNECTIONS * (gateways + workers + persisters):,}",
        "archive, GB a day": _number(events * f["row"] * 86_400 * f["day"] / 1e9),
    }


def _redis(events: float, workers: int, persisters: int, f: Figures) -> tuple[int, int, float]:
    """Primaries, partitions, and what part of the primaries' time goes into polling."""
    shards = 1
    while True:
        partitions = max(PARTITIONS_MIN, 2 ** math.ceil(math.log2(PARTITIONS_PER_SHARD * shards)))
        per_partition = POLLS_OF_WORKER * workers + POLLS_OF_PERSISTER * persisters
        polling = partitions * per_partition * f["poll_us"] / 1e6
        spent = events * f["append_us"] / 1e6 + polling
        if spent <= shards * f["busy"]:
            return shards, partitions, polling / spent
        shards += 1


def _memory(streams: float, f: Figures) -> float:
    """Bytes of a cell: answers under way, and those that are over and not yet let go."""
    answer = f["job_bytes"] + f["tokens"] * f["answer"] / f["grouped"] * f["hot_bytes"]
    return streams * answer * (1 + f["ttl"] / f["answer"])


def _cores(seconds_per_10k: float, f: Figures) -> float:
    return seconds_per_10k / 10_000 / f["busy"]


def _at_least_two(*wanted: float) -> int:
    return max(2, *(math.ceil(one) for one in wanted))


def _number(value: float) -> str:
    """Three digits that say something."""
    if value >= 100:
        places = len(str(int(value))) - 3
        return f"{round(value, -places):,.0f}"
    return f"{value:.3g}"
