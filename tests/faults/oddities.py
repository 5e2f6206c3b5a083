"""Services that are odd: agents that misbehave in their worker, clocks of their own, impatience.

FAULTS_PATCH=odd_agents,own_clock,impatient_gateway  FAULTS_CLOCK=<file with seconds>
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast

import jwt.api_jwt

from services.api import connections
from services.orchestrator import ending
from services.orchestrator.job_writer import JobWriter
from services.orchestrator.run_job import (
    _JobRun,  # pyright: ignore[reportPrivateUsage] -- what an attempt does is changed from inside
)
from shared import times
from shared.events import JobEvent, Metadata, MetadataAdded

BLOCKED_SECONDS = 7.0  # three leases and a half
WORDS = 10_000
WORD_BYTES = 200
SEND_SECONDS_MAX = 3.0


class Thought(JobEvent, frozen=True):
    """An event of a type that this version does not know."""

    type: Literal["thought"] = "thought"
    content: str


class ColouredMetadata(JobEvent, frozen=True):
    """A known type, of a version that this one does not know."""

    type: Literal["metadata"] = "metadata"
    v: int = 2
    metadata: Metadata
    colour: str


def die(_: JobWriter) -> None:
    """Nothing of what this worker does is brought to an end."""
    os.kill(os.getpid(), signal.SIGKILL)


def block(_: JobWriter) -> None:
    """A synchronous tool: the event loop stands still."""
    time.sleep(BLOCKED_SECONDS)


def babble(writer: JobWriter) -> None:
    """A stream of many events, which no append joins into few."""
    for number in range(WORDS):
        writer.add(MetadataAdded, metadata={"number": number, "filling": "x" * WORD_BYTES})


def speak_newer(writer: JobWriter) -> None:
    """What a worker of the next version may say."""
    writer.add(Thought, content="of the next version")
    writer.add(ColouredMetadata, metadata={"number": 1}, colour="green")


ODD_AGENTS = {"deadly": die, "blocking": block, "wordy": babble, "newer": speak_newer}


def odd_agents() -> None:
    """Agents of these names do something else before they ask the model."""
    generate = cast("Any", _JobRun)._generate

    async def odd(self: Any, writer: JobWriter) -> Any:
        if act := ODD_AGENTS.get(self._agent.name):
            act(writer)
        return await generate(self, writer)

    cast("Any", _JobRun)._generate = odd


def own_clock() -> None:
    """The wall clock is off by as many seconds as stand in the file FAULTS_CLOCK names, now."""
    file, real_time = Path(os.environ["FAULTS_CLOCK"]), time.time

    def seconds_off() -> float:
        return float(file.read_text())

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=seconds_off())

    cast("Any", time).time = lambda: real_time() + seconds_off()
    cast("Any", time).time_ns = lambda: int((real_time() + seconds_off()) * 1e9)
    for module in (times, ending, jwt.api_jwt):
        cast("Any", module).datetime = Skewed


def impatient_gateway() -> None:
    """Clients that take nothing, or ask nothing, are given up on sooner."""
    cast("Any", connections).SEND_SECONDS_MAX = SEND_SECONDS_MAX
    cast("Any", connections).REQUEST_SECONDS_MAX = SEND_SECONDS_MAX


ODDITIES: dict[str, Callable[[], None]] = {
    patch.__name__: patch for patch in (odd_agents, own_clock, impatient_gateway)
}
