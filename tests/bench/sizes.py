"""How much is measured: a smoke of seconds, the usual ten minutes, or all that the machine can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

TOKENS_PER_SECOND = 30.0  # of a paced model, per stream
STARTS_PER_SECOND = 128.0  # of paced streams, so that they do not all begin in one moment


@dataclass(frozen=True)
class Speech:
    """What the model answers: so many tokens, at a pace; 0: it does not wait."""

    tokens: int
    per_second: float = 0.0

    @property
    def agent(self) -> str:
        return f"speech-{self.tokens}-{self.per_second:g}"

    @property
    def model(self) -> str:
        name = f"fake:tokens={self.tokens},stamped"
        if not self.per_second:
            return name
        return f"{name},delay_ms={1000 / self.per_second:.4f},first_ms=0"


@dataclass(frozen=True)
class Load:
    """``answers`` of a model, ``streams`` at a time, the first of them begun within the ramp."""

    streams: int
    answers: int
    speech: Speech
    ramp_seconds: float = 0.0


def unpaced(streams: int, answers: int, tokens: int = 200) -> Load:
    return Load(streams, answers, Speech(tokens))


def paced(streams: int, seconds: float) -> Load:
    """All at once, so long from the last beginning to the first end."""
    ramp = streams / STARTS_PER_SECOND
    return Load(streams, streams, _paced_speech(ramp + seconds), ramp)


def paced_in_turn(answers: int, seconds: float) -> Load:
    """One stream, and another when it has ended."""
    return Load(1, answers, _paced_speech(seconds))


def _paced_speech(seconds: float) -> Speech:
    return Speech(round(seconds * TOKENS_PER_SECOND), TOKENS_PER_SECOND)


@dataclass(frozen=True)
class Sizes:
    """``rounds`` are of the floor and of Headwater in turn; other measures have Headwater's alone.

    A load that is named is played at each step of what grows.
    """

    name: str
    seconds_max: float
    rounds: int
    paced_rounds: int
    growth_rounds: int
    unpaced: Sequence[Load]
    paced: Sequence[Load]
    resume_events: int
    resume_runs: int
    watched: Speech  # of the job that viewers share
    viewers: Sequence[int]
    interrupted: Speech  # of the jobs whose worker is killed
    interrupted_jobs: int
    lease_seconds: float
    persister_paces: Sequence[float]  # events per second
    persister_seconds: float
    persister_backlog: int  # events
    starts_again: bool
    settle_seconds: float  # before memory is looked at
    idle_clients: int
    running: Speech  # of jobs that only run
    running_jobs: int
    cancel_runs: int
    growing: Sequence[Load]  # in streams
    steady: Load  # while partitions, or archived events, become more
    partitions: Sequence[int]
    archive_rows: Sequence[int]
    in_thread: Load  # while its messages become more
    thread_messages: Sequence[int]

    @property
    def speeches(self) -> set[Speech]:
        """Everything the model will be asked to say."""
        loads = (*self.unpaced, *self.paced, *self.growing, self.steady, self.in_thread)
        return {self.watched, self.running, *(load.speech for load in loads)}


SMOKE = Sizes(
    name="smoke",
    seconds_max=220.0,
    rounds=1,
    paced_rounds=1,
    growth_rounds=1,
    unpaced=(unpaced(1, 2, tokens=20), unpaced(4, 4, tokens=20)),
    paced=(paced_in_turn(1, 0.2), paced(4, 0.5)),
    resume_events=600,
    resume_runs=2,
    watched=Speech(30, TOKENS_PER_SECOND),
    viewers=(1, 3),
    interrupted=Speech(10, 10.0),
    interrupted_jobs=6,
    lease_seconds=1.0,
    persister_paces=(500,),
    persister_seconds=0.5,
    persister_backlog=500,
    starts_again=False,
    settle_seconds=0.2,
    idle_clients=20,
    running=Speech(60, 1.0),
    running_jobs=4,
    cancel_runs=2,
    growing=(unpaced(1, 2, tokens=20), unpaced(8, 8, tokens=20)),
    steady=unpaced(4, 4, tokens=20),
    partitions=(1,),
    archive_rows=(1_000, 2_000),
    in_thread=unpaced(1, 2, tokens=20),
    thread_messages=(2, 100),
)
USUAL = Sizes(
    name="usual",
    seconds_max=600.0,
    rounds=3,
    paced_rounds=2,
    growth_rounds=2,
    unpaced=(unpaced(1, 100), unpaced(16, 160), unpaced(64, 320), unpaced(256, 512)),
    paced=(paced_in_turn(10, 0.5), paced(16, 4.0), paced(64, 4.0), paced(256, 15.0)),
    resume_events=10_000,
    resume_runs=20,
    watched=Speech(120, TOKENS_PER_SECOND),
    viewers=(1, 10, 100),
    interrupted=Speech(30, 10.0),
    interrupted_jobs=16,
    lease_seconds=5.0,
    persister_paces=(1_000, 10_000),
    persister_seconds=5.0,
    persister_backlog=200_000,
    starts_again=True,
    settle_seconds=2.0,
    idle_clients=1_000,
    running=Speech(60, 1.0),
    running_jobs=256,
    cancel_runs=20,
    growing=(
        unpaced(1, 60), unpaced(16, 160), unpaced(64, 256), unpaced(256, 512), unpaced(1000, 1000),
    ),
    steady=unpaced(16, 160),
    partitions=(1, 8, 64),
    archive_rows=(100_000, 1_000_000),
    in_thread=unpaced(1, 30),
    thread_messages=(10, 100, 1_000, 10_000),
)  # fmt: skip
FULL = replace(
    USUAL,
    name="full",
    seconds_max=8 * 3600.0,
    rounds=5,
    paced_rounds=5,
    growth_rounds=5,
    unpaced=(unpaced(1, 200), unpaced(16, 640), unpaced(64, 1280), unpaced(256, 2048)),
    paced=(paced_in_turn(30, 1.0), paced(16, 10.0), paced(64, 10.0), paced(256, 10.0)),
    resume_runs=100,
    interrupted_jobs=64,
    persister_paces=(1_000, 10_000, 30_000),
    persister_seconds=30.0,
    persister_backlog=2_000_000,
    idle_clients=4_000,
    cancel_runs=100,
    partitions=(1, 2, 4, 8, 16, 32, 64),
    archive_rows=(100_000, 1_000_000, 10_000_000, 100_000_000),
)
SIZES = {sizes.name: sizes for sizes in (SMOKE, USUAL, FULL)}
