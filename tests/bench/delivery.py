"""Answers while they are written: first token, tokens per second, delivery, and what it costs.

Rounds of the floor and of Headwater follow one another in turn, so that a machine that slows down
slows both. The client and the model server run on the same cores: what they use is shown, and
counted to neither side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import uvloop

from tests.bench.cpu import SATURATED
from tests.bench.figures import Figure, ratio, short
from tests.bench.report import Chart, Line, Table, Target, say
from tests.bench.rig import PARTS, Rig
from tests.bench.rounds import MODEL, Round, play_round
from tests.bench.sizes import Load, Sizes

FLOOR = "floor"
NOTE = (
    "In brackets: the lowest and the highest of the rounds. CPU: seconds per 10,000 tokens, until"
    " all is archived. Busy: of all cores, others: by processes that have nothing to do with this;"
    f" from {SATURATED:.0%} on, figures tell more of the cores than of the side."
)


@dataclass(frozen=True)
class Side:
    """What one side did under one load. CPU in seconds per 10,000 tokens, busy from 0 to 1."""

    answers: int
    refused: int
    tokens_per_event: float
    first_p50_ms: Figure
    first_p99_ms: Figure
    latency_p50_ms: Figure
    latency_p99_ms: Figure
    tokens_per_second: Figure
    cpu: Figure
    cpu_of: Mapping[str, float]
    client_cpu: float
    model_cpu: float
    busy: Figure
    foreign: Figure

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> Side:
        first = [one.first_ms for one in rounds]
        latency = [one.latency_ms for one in rounds]
        tokens = sum(one.tokens for one in rounds)
        parts = [name for name in rounds[0].spent.of if name != MODEL]
        return cls(
            answers=sum(map(len, first)),
            refused=sum(one.refused for one in rounds),
            tokens_per_event=tokens / sum(one.events for one in rounds),
            first_p50_ms=Figure.pooled(first, 0.5),
            first_p99_ms=Figure.pooled(first, 0.99),
            latency_p50_ms=Figure.pooled(latency, 0.5),
            latency_p99_ms=Figure.pooled(latency, 0.99),
            tokens_per_second=Figure.of([one.tokens_per_second for one in rounds]),
            cpu=Figure.of([one.cpu for one in rounds]),
            cpu_of={name: Figure.of([one.per_10k(name) for one in rounds]).value for name in parts},
            client_cpu=sum(one.spent.own for one in rounds) / tokens * 10_000,
            model_cpu=Figure.of([one.per_10k(MODEL) for one in rounds]).value,
            busy=Figure.of([one.spent.busy for one in rounds]),
            foreign=Figure.of([one.spent.foreign for one in rounds]),
        )

    def row(self, streams: int, name: str) -> list[str]:
        figures = (
            self.first_p50_ms, self.first_p99_ms, self.tokens_per_second, self.cpu,
            self.latency_p50_ms, self.latency_p99_ms, short(self.client_cpu), short(self.model_cpu),
        )  # fmt: skip
        busy = f"{self.busy.value:.0%}{' !' if self.busy.value >= SATURATED else ''}"
        others = f"{self.foreign.value:.0%}"
        return [str(streams), name, *map(str, figures), str(self.refused), busy, others]


@dataclass(frozen=True)
class Cell:
    streams: int
    floor: Side
    headwater: Side

    @property
    def ratios(self) -> list[str]:
        floor, own = self.floor, self.headwater
        return [
            str(self.streams),
            f"{self.first_over(0.5):+.2f}",
            f"{self.first_over(0.99):+.2f}",
            ratio(own.tokens_per_second.value, floor.tokens_per_second.value),
            ratio(own.cpu.value, floor.cpu.value),
            f"{own.latency_p50_ms.value - floor.latency_p50_ms.value:+.2f}",
            f"{own.latency_p99_ms.value - floor.latency_p99_ms.value:+.2f}",
            short(own.tokens_per_event),
        ]

    def first_over(self, part: float) -> float:
        """Milliseconds to the first token, over the floor's: at p50 or at p99."""
        if part == 0.5:
            return self.headwater.first_p50_ms.value - self.floor.first_p50_ms.value
        return self.headwater.first_p99_ms.value - self.floor.first_p99_ms.value


@dataclass(frozen=True)
class Delivery:
    """``pace`` is the model's, in tokens per second and stream; 0: it does not wait."""

    pace: float
    cells: Sequence[Cell]

    @property
    def model(self) -> str:
        return f"a model of {self.pace:g} tokens/s" if self.pace else "a model that does not wait"

    def tables(self) -> list[Table]:
        over = Table(
            f"Against the floor, {self.model}",
            (
                "streams", "first token p50, ms over", "p99, ms over", "tokens/s", "CPU",
                "delivery p50, ms over", "p99, ms over", "tokens per event",
            ),
            [cell.ratios for cell in self.cells],
        )  # fmt: skip
        absolute = Table(
            f"Absolute, {self.model}",
            (
                "streams", "side", "first token p50, ms", "p99, ms", "tokens/s", "CPU",
                "delivery p50, ms", "p99, ms", "client CPU", "model CPU", "refused", "busy",
                "others",
            ),
            [
                side.row(cell.streams, name)
                for cell in self.cells
                for name, side in ((FLOOR, cell.floor), ("Headwater", cell.headwater))
            ],
            note=NOTE,
        )  # fmt: skip
        processes = Table(
            f"CPU of each process, {self.model}",
            ("streams", *PARTS),
            [
                [str(cell.streams), *(short(cell.headwater.cpu_of[name]) for name in PARTS)]
                for cell in self.cells
            ],
        )
        return [over, absolute, processes]

    def charts(self) -> list[Chart]:
        drawn: list[tuple[str, Callable[[Side], Figure]]] = [
            ("first token p50, ms", lambda side: side.first_p50_ms),
            ("tokens/s", lambda side: side.tokens_per_second),
            ("CPU s per 10k tokens", lambda side: side.cpu),
            ("delivery p99, ms", lambda side: side.latency_p99_ms),
        ]
        return [
            Chart(
                y,
                "streams",
                y,
                [
                    Line(FLOOR, [(cell.streams, of(cell.floor).value) for cell in self.cells]),
                    Line(
                        "Headwater",
                        [(cell.streams, of(cell.headwater).value) for cell in self.cells],
                    ),
                ],
            )
            for y, of in drawn
        ]

    def targets(self) -> list[Target]:
        cells = {cell.streams: cell for cell in self.cells}
        return list(_paced_targets(cells) if self.pace else _unpaced_targets(cells))


def _unpaced_targets(cells: Mapping[int, Cell]) -> Sequence[Target]:
    found: list[Target] = []
    if one := cells.get(1):
        for name, part, limit in (("p50", 0.5, 3), ("p99", 0.99, 10)):
            what = f"first token over the floor, 1 stream, {name}"
            found.append(Target.at_most(what, one.first_over(part), limit, "ms"))
    if some := cells.get(16):
        rate = some.headwater.tokens_per_second.value
        found.append(Target.at_least("16 streams, unpaced", rate, 40_000, "tokens/s"))
    if many := cells.get(64):
        what = "CPU per 10k tokens, services and stores, 64 streams, unpaced"
        found.append(Target.at_most(what, many.headwater.cpu.value, 0.4, "s"))
    return found


def _paced_targets(cells: Mapping[int, Cell]) -> Sequence[Target]:
    if (many := cells.get(256)) is None:
        return []
    cpu, latency = many.headwater.cpu.value, many.headwater.latency_p99_ms.value
    return [
        Target.at_most("CPU per 10k tokens, services and stores, 256 × 30/s", cpu, 1.2, "s"),
        Target.at_most("delivery, 256 × 30/s, p99", latency, 50, "ms"),
    ]


def unpaced(rig: Rig, sizes: Sizes) -> Delivery:
    return uvloop.run(_measure(rig, sizes.unpaced, sizes.rounds))


def paced(rig: Rig, sizes: Sizes) -> Delivery:
    return uvloop.run(_measure(rig, sizes.paced, sizes.paced_rounds))


async def _measure(rig: Rig, loads: Sequence[Load], rounds: int) -> Delivery:
    await _cell(rig, loads[0], 1)  # to warm up: the first answers of a process are slow
    cells = [await _cell(rig, load, rounds) for load in loads]
    return Delivery(loads[0].speech.per_second, cells)


async def _cell(rig: Rig, load: Load, rounds: int) -> Cell:
    floor: list[Round] = []
    headwater: list[Round] = []
    model = {MODEL: rig.model.pid}
    for _ in range(rounds):
        pids = {FLOOR: rig.floor.pid, **model}
        floor.append(await play_round(load, rig.ask_floor, pids, _at_once))
        pids = {**rig.pids, **model}
        headwater.append(await play_round(load, rig.ask, pids, rig.settled))
    cell = Cell(load.streams, Side.of(floor), Side.of(headwater))
    rate = cell.headwater.tokens_per_second
    say(f"  {load.streams} streams: {rate} tokens/s, CPU {cell.headwater.cpu} s per 10k")
    return cell


async def _at_once() -> None:
    """The floor has nothing to do behind its last token."""
