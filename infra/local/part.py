"""A part: what a supervisor must know to start, watch and stop one process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from infra.local.process import Child

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


class Life(Protocol):
    """What plays a part until it ends, a process or something like it; see Child for what it does.

    `pid` and `mark` are the process's on this machine, `exit_code` must not block.
    """

    mark: str | None

    @property
    def pid(self) -> int: ...
    def exit_code(self) -> int | None: ...
    def send(self, sent: signal.Signals) -> None: ...
    def end(self) -> None: ...


def as_process(part: Part) -> Life:
    """What most parts are."""
    return Child(part.command, log=part.log, env=part.env, cwd=part.cwd)


def _nothing() -> None:
    """What most parts need before each start."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process, described.

    `prepare` runs before every start and may block for a moment; it raises PartError, and so may
    `launch`, which starts it; both run in the thread that keeps the part. `ready` answers within a
    second or so whether the running process does its work. A part with `once` is ready when it has
    exited with 0. Replicas of a service share their `kind`, and stop together.
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
    launch: Callable[[Part], Life] = as_process
    ready: Callable[[], bool] = lambda: True
    ready_seconds_max: float = SERVER_READY_SECONDS_MAX
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds_max: float = SERVER_STOP_SECONDS_MAX

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", self.name)


class MakeServer(Protocol):
    """Makes the part of a server: on 127.0.0.1:`port`, with its data in `folder`."""

    def __call__(self, folder: Path, port: int, password: str, *, log: Path) -> Part: ...
