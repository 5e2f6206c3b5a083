"""How much is measured: a smoke of seconds, the usual ten minutes, or all that the machine can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """``rounds`` are of the floor and of Headwater in turn."""

    name: str
    seconds_max: float
    rounds: int
    unpaced: Sequence[Load]
    paced: Sequence[Load]

    @property
    def speeches(self) -> set[Speech]:
        """Everything the model will be asked to say."""
        return {load.speech for load in (*self.unpaced, *self.paced)}


SMOKE = Sizes(
    name="smoke",
    seconds_max=100.0,
    rounds=2,
    unpaced=(unpaced(1, 2, tokens=20), unpaced(4, 4, tokens=20)),
    paced=(paced_in_turn(1, 0.2), paced(4, 0.5)),
)
USUAL = Sizes(
    name="usual",
    seconds_max=600.0,
    rounds=3,
    unpaced=(unpaced(1, 100), unpaced(16, 160), unpaced(64, 320), unpaced(256, 512)),
    paced=(paced_in_turn(10, 0.5), paced(16, 4.0), paced(64, 4.0), paced(256, 4.0)),
)
FULL = Sizes(
    name="full",
    seconds_max=4 * 3600.0,
    rounds=5,
    unpaced=(unpaced(1, 200), unpaced(16, 640), unpaced(64, 1280), unpaced(256, 2048)),
    paced=(paced_in_turn(30, 1.0), paced(16, 10.0), paced(64, 10.0), paced(256, 10.0)),
)
SIZES = {sizes.name: sizes for sizes in (SMOKE, USUAL, FULL)}
