"""One round of load on one side, floor or Headwater, and what it took.

A paced round is judged by the time in which all its streams run: not by its ramp, in which they
begin, nor by its end. An unpaced one, and answers that follow one another, are judged as a whole.

A request that is refused, as a gateway does when Redis takes too long, is asked again a second
later, as its answer says; its first token is then as late as it was for who asked. Such requests
are counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from tests.bench.cpu import CpuMeter, Spent
from tests.bench.rig import Ask
from tests.bench.sizes import Load
from tests.bench.streams import Answer, Refused, TokenTimes, read_tokens, stream

MODEL = "model"
MILLISECONDS = 1000
AGAIN_SECONDS = 1.0
REFUSALS_MAX = 30  # of one request


@dataclass(frozen=True, slots=True)
class Round:
    """``spent`` names the parts of the side, and the model."""

    tokens: int
    events: int
    refused: int
    tokens_per_second: float
    first_ms: list[float]
    latency_ms: list[float]
    spent: Spent

    @property
    def cpu(self) -> float:
        """Of the side itself, in seconds per 10,000 tokens."""
        return sum(self.per_10k(name) for name in self.spent.of if name != MODEL)

    def per_10k(self, name: str) -> float:
        return self.spent.of[name] / self.tokens * 10_000


async def play_round(
    load: Load, ask: Ask, pids: Mapping[str, int], settled: Callable[[], Awaitable[None]]
) -> Round:
    """``pids`` are of the side and of the model."""
    meter = CpuMeter(pids)
    answers, refused = await play(load, ask)
    await settled()
    spent = meter.read()
    told = [read_tokens(answer) for answer in answers]
    tokens = sum(map(len, told))
    assert tokens == load.answers * load.speech.tokens, f"{tokens} tokens of {load}"
    begins, ends = _window(load, answers)
    judged = [one for times in told for one in times if begins <= one.sent <= ends]
    assert judged, f"no token of {load} is sent while all its streams run"
    return Round(
        tokens=tokens,
        events=sum(answer.events for answer in answers),
        refused=refused,
        tokens_per_second=len(judged) / (ends - begins),
        first_ms=[
            (times[0].arrived - answer.began) * MILLISECONDS
            for answer, times in zip(answers, told, strict=True)
        ],
        latency_ms=[_latency(one) for one in judged],
        spent=spent,
    )


async def play(load: Load, ask: Ask) -> tuple[list[Answer], int]:
    """Every answer of a load, and how many requests were refused."""
    slots = asyncio.Semaphore(load.streams)
    refused = 0

    async def one(number: int) -> Answer:
        nonlocal refused
        await asyncio.sleep(load.ramp_seconds * number / load.answers)
        async with slots:
            began = time.monotonic()
            for _ in range(REFUSALS_MAX):
                try:
                    return replace(await stream(ask(load.speech, number)), began=began)
                except Refused:
                    refused += 1
                    await asyncio.sleep(AGAIN_SECONDS)
            return await stream(ask(load.speech, number))

    return await asyncio.gather(*(one(number) for number in range(load.answers))), refused


def _window(load: Load, answers: list[Answer]) -> tuple[float, float]:
    begins, ends = max(one.began for one in answers), min(one.ended for one in answers)
    if load.ramp_seconds and begins < ends:
        return begins, ends
    return min(one.began for one in answers), max(one.ended for one in answers)


def _latency(token: TokenTimes) -> float:
    return (token.arrived - token.sent) * MILLISECONDS
