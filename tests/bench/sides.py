"""Floor and Headwater under one load, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.cpu import SATURATED
from tests.bench.figures import Figure, ratio, short
from tests.bench.rounds import MODEL, Round


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
            f"{self.first_p50_over:+.2f}",
            f"{self.first_p99_over:+.2f}",
            ratio(own.tokens_per_second.value, floor.tokens_per_second.value),
            ratio(own.cpu.value, floor.cpu.value),
            f"{own.latency_p50_ms.value - floor.latency_p50_ms.value:+.2f}",
            f"{own.latency_p99_ms.value - floor.latency_p99_ms.value:+.2f}",
            short(own.tokens_per_event),
        ]

    @property
    def first_p50_over(self) -> float:
        """Milliseconds to the first token, on top of the floor's."""
        return self.headwater.first_p50_ms.value - self.floor.first_p50_ms.value

    @property
    def first_p99_over(self) -> float:
        return self.headwater.first_p99_ms.value - self.floor.first_p99_ms.value
