"""One job, watched by many: what each further viewer costs, and how late the last one hears."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import uvloop

from tests.bench.cpu import CpuMeter
from tests.bench.figures import Figure, short
from tests.bench.report import Chart, Line, Table, Target
from tests.bench.rig import PARTS, Rig
from tests.bench.sizes import Sizes, Speech
from tests.bench.streams import Answer, Request, read_tokens, stream
from tests.support.gateway_client import GatewayClient

MILLISECONDS = 1000
BEFORE_SECONDS = 0.5  # in which the viewers come; what was said before does not count


@dataclass(frozen=True)
class Watched:
    """CPU in seconds per 10,000 tokens that a viewer was given."""

    viewers: int
    tokens: int
    latency_p50_ms: Figure
    latency_p99_ms: Figure
    cpu: float
    cpu_of: dict[str, float]


@dataclass(frozen=True)
class Viewers:
    rows: Sequence[Watched]

    def tables(self) -> list[Table]:
        rows = [
            [str(row.viewers), str(row.latency_p50_ms), str(row.latency_p99_ms), short(row.cpu),
             *(short(row.cpu_of[name]) for name in PARTS)]
            for row in self.rows
        ]  # fmt: skip
        head = ("viewers", "delivery p50, ms", "p99, ms", "CPU", *PARTS)
        note = "Each viewer has every token. CPU: seconds per 10,000 tokens given to viewers."
        return [Table("One paced job, watched by many", head, rows, note)]

    def charts(self) -> list[Chart]:
        cpu = [(row.viewers, row.cpu) for row in self.rows]
        late = [(row.viewers, row.latency_p99_ms.value) for row in self.rows]
        return [
            Chart("CPU of a token", "viewers", "s per 10k tokens", [Line("Headwater", cpu)]),
            Chart("delivery p99", "viewers", "ms", [Line("Headwater", late)]),
        ]

    def targets(self) -> list[Target]:
        return []


def viewers(rig: Rig, sizes: Sizes) -> Viewers:
    return uvloop.run(_measure(rig, sizes))


async def _measure(rig: Rig, sizes: Sizes) -> Viewers:
    return Viewers([await _watched(rig, sizes.watched, count) for count in sizes.viewers])


async def _watched(rig: Rig, speech: Speech, count: int) -> Watched:
    await rig.settled()
    meter = CpuMeter(rig.pids)
    async with GatewayClient(rig.cluster.url, rig.token(0)) as client:
        job_id = (await client.ask("measure", agent=speech.agent))["job_id"]
    url = f"{rig.cluster.url}/v1/jobs/{job_id}/events"
    request = Request.of("GET", url, token=rig.token(0))
    answers = await asyncio.gather(*(stream(request) for _ in range(count)))
    await rig.settled()
    spent = meter.read()
    late = [_late(answer, speech) for answer in answers]
    tokens = count * speech.tokens
    cpu_of = {name: seconds / tokens * 10_000 for name, seconds in spent.of.items()}
    return Watched(
        viewers=count,
        tokens=tokens,
        latency_p50_ms=Figure.pooled(late, 0.5),
        latency_p99_ms=Figure.pooled(late, 0.99),
        cpu=sum(cpu_of.values()),
        cpu_of=cpu_of,
    )


def _late(answer: Answer, speech: Speech) -> list[float]:
    """Milliseconds of each token that was sent when all the viewers were there."""
    times = read_tokens(answer)
    assert len(times) == speech.tokens, f"{len(times)} tokens of {speech}"
    since = times[0].sent + BEFORE_SECONDS
    return [(one.arrived - one.sent) * MILLISECONDS for one in times if one.sent >= since]
