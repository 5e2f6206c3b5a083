"""What a row's report says in numbers, from its records: pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.faults.facts import Facts
from tests.faults.history import Record


@dataclass(frozen=True)
class Figures:
    """`longest_pause_seconds`: between two events of one viewer of a job that runs, also of those
    that a loss has made void: it was waited for them all the same."""

    longest_pause_seconds: float
    attempts_max: int
    jobs: int
    connections_max: int  # of one viewer
    quiet_seconds: float  # from the end of the last stream until nothing was pending
    seconds: float
    resident_mib_max: int


def figures(records: Sequence[Record]) -> Figures:
    """Of a history that was collected."""
    facts = Facts(records)
    return Figures(
        longest_pause_seconds=round(max(_pauses(records), default=0.0), 2),
        attempts_max=max((e["attempt"] for job in facts.events.values() for e in job), default=0),
        jobs=len(facts.accepted),
        connections_max=max((one["connection"] for one in facts.of["connect"]), default=0),
        quiet_seconds=max((one["seconds"] for one in facts.of["quiet"]), default=0.0),
        seconds=round(records[-1]["t"], 1),
        resident_mib_max=max((one["bytes"] >> 20 for one in facts.of["memory"]), default=0),
    )


def _pauses(records: Sequence[Record]) -> Iterator[float]:
    """Who follows a job again that had its end was not waiting meanwhile."""
    seen: dict[str, list[Record]] = defaultdict(list)
    for one in records:
        if one["kind"] == "event":
            seen[one["viewer"]].append(one)
    for events in seen.values():
        for sooner, later in pairwise(events):
            if sooner["event"]["type"] != "done":
                yield later["t"] - sooner["t"]
