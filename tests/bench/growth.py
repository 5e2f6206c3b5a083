"""How a token's cost grows with what there is: streams, partitions, messages, archived rows.

The cost is CPU per token, against the first point; each point is the median of its rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import uvloop

from tests.bench.figures import Figure, ratio, short
from tests.bench.report import Chart, Line, Table, Target
from tests.bench.rig import PARTS, Ask, Rig, rig
from tests.bench.rounds import Round, play_round
from tests.bench.sizes import Load, Sizes

STREAMS = "streams"
BASE_STREAMS, MANY_STREAMS = 16, 1000


@dataclass(frozen=True)
class Point:
    """CPU in seconds per 10,000 tokens."""

    x: int
    cpu: Figure
    cpu_of: Mapping[str, float]
    first_p50_ms: Figure
    tokens_per_second: Figure
    refused: int
    busy: Figure

    @classmethod
    def of(cls, x: int, rounds: Sequence[Round]) -> Point:
        return cls(
            x=x,
            cpu=Figure.of([one.cpu for one in rounds]),
            cpu_of={name: Figure.of([one.per_10k(name) for one in rounds]).value for name in PARTS},
            first_p50_ms=Figure.pooled([one.first_ms for one in rounds], 0.5),
            tokens_per_second=Figure.of([one.tokens_per_second for one in rounds]),
            refused=sum(one.refused for one in rounds),
            busy=Figure.of([one.spent.busy for one in rounds]),
        )


@dataclass(frozen=True)
class Growth:
    """``load`` says what was played at each point."""

    what: str
    load: str
    points: Sequence[Point]

    def tables(self) -> list[Table]:
        first = self.points[0].cpu.value
        rows = [
            [
                f"{point.x:,}", ratio(point.cpu.value, first), str(point.cpu),
                *(short(point.cpu_of[name]) for name in PARTS), str(point.first_p50_ms),
                str(point.tokens_per_second), str(point.refused), f"{point.busy.value:.0%}",
            ]
            for point in self.points
        ]  # fmt: skip
        head = (
            self.what, "CPU, of the first", "CPU", *PARTS, "first token p50, ms", "tokens/s",
            "refused", "busy",
        )  # fmt: skip
        return [Table(f"A token's cost by {self.what}", head, rows, self.load)]

    def charts(self) -> list[Chart]:
        cpu = [(point.x, point.cpu.value) for point in self.points]
        first = [(point.x, point.first_p50_ms.value) for point in self.points]
        return [
            Chart("CPU s per 10k tokens", self.what, "s", [Line("Headwater", cpu)]),
            Chart("first token p50", self.what, "ms", [Line("Headwater", first)]),
        ]

    def targets(self) -> list[Target]:
        cpu = {point.x: point.cpu.value for point in self.points}
        if self.what != STREAMS or MANY_STREAMS not in cpu or BASE_STREAMS not in cpu:
            return []
        what = f"CPU per token, {MANY_STREAMS:,} streams against {BASE_STREAMS}"
        return [Target.at_most(what, cpu[MANY_STREAMS] / cpu[BASE_STREAMS], 1.2, "×")]


async def point(rig: Rig, x: int, load: Load, rounds: int, ask: Ask | None = None) -> Point:
    """After a round that does not count."""
    played = [
        await play_round(load, ask or rig.ask, rig.pids, rig.settled) for _ in range(rounds + 1)
    ]
    return Point.of(x, played[1:])


def described(load: Load) -> str:
    streams = "1 stream" if load.streams == 1 else f"{load.streams} streams"
    return f"{streams}, {load.answers} answers of {load.speech.tokens} tokens, unpaced."


def streams(rig: Rig, sizes: Sizes) -> Growth:
    return uvloop.run(_streams(rig, sizes))


async def _streams(rig: Rig, sizes: Sizes) -> Growth:
    points = [await point(rig, load.streams, load, sizes.growth_rounds) for load in sizes.growing]
    tokens = sizes.growing[0].speech.tokens
    return Growth(STREAMS, f"Answers of {tokens} tokens, unpaced.", points)


def partitions(sizes: Sizes) -> Growth:
    """Each in a cluster of its own: the number is fixed for a deployment's life."""
    points: list[Point] = []
    for count in sizes.partitions:
        with rig([sizes.steady.speech], partitions=count) as built:
            points.append(uvloop.run(point(built, count, sizes.steady, sizes.growth_rounds)))
    return Growth("partitions", described(sizes.steady), points)
