"""Charts of a measure, side by side in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tests.bench.report import Chart

INCHES = 4.0


def draw(charts: Sequence[Chart], path: Path) -> None:
    figure = Figure(figsize=(INCHES * len(charts), INCHES), layout="constrained")
    for number, chart in enumerate(charts):
        axes = figure.add_subplot(1, len(charts), number + 1)
        for line in chart.lines:
            x, y = zip(*line.points, strict=True)
            axes.plot(x, y, marker="o", label=line.name)
        axes.set(title=chart.title, xlabel=chart.x, ylabel=chart.y, xscale="log", yscale="log")
        axes.minorticks_off()
        places = sorted({x for line in chart.lines for x, _ in line.points})
        axes.set_xticks(places, [f"{x:g}" for x in places])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(visible=True, which="both", alpha=0.3)
        if len(chart.lines) > 1:
            axes.legend()
    figure.savefig(path, dpi=100)
