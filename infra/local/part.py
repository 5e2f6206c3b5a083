"""A part: what a supervisor must know to start, watch and stop one process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

SERVER_READY_SECONDS_MAX = 30.0
SERVER_STOP_SECONDS_MAX = 10.0


class PartState(StrEnum):
    WAITING = "waiting"  # for the parts it comes after
    STARTING = "starting"
    READY = "ready"
    DONE = "done"  # ran once and succeeded
    BACKING_OFF = "backing off"  # died; is started again soon
    CRASH_LOOP = "crash loop"  # died again and again; is still started again
    HELD = "held"  # ended on request, until it is released
    STOPPING = "stopping"
    STOPPED = "stopped"


def _nothing() -> None:
    """What most parts need before each start."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process, described.

    `prepare` runs before every start and may block for a moment; it raises PartError. `ready`
    answers within a second or so whether the running process does its work. A part with `once` is
    ready when it has exited with 0. Replicas of a service share their `kind`, and stop together.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    kind: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: Path | None = None
    after: tuple[str, ...] = ()
    once: bool = False
    prepare: Callable[[], None] = _nothing
    ready: Callable[[], bool] = lambda: True
    ready_seconds_max: float = SERVER_READY_SECONDS_MAX
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds_max: float = SERVER_STOP_SECONDS_MAX

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", self.name)
