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
from tests.bench.figures import Figure, short
from tests.bench.report import Chart, Line, Table, Target, say
from tests.bench.rig import PARTS, Rig
from tests.bench.rounds import MODEL, Round, play_round
from tests.bench.sides import Cell, Side
from tests.bench.sizes import Load, Sizes

FLOOR = "floor"
NOTE = (
    "In brackets: the lowest and the highest of the rounds. CPU: seconds per 10,000 tokens, until"
    " all is archived. Busy: of all cores, others: by processes that have nothing to do with this;"
    f" from {SATURATED:.0%} on, figures tell more of the cores than of the side."
)


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
        what = "first token over the floor, 1 stream"
        found.append(Target.at_most(f"{what}, p50", one.first_p50_over, 3, "ms"))
        found.append(Target.at_most(f"{what}, p99", one.first_p99_over, 10, "ms"))
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
