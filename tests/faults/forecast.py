"""What a storm will do, before it does it: who asks what, and which fault strikes whom, by seed.

Endless, because how many of them find room in the time depends on the machine; their order and all
that is drawn for each does not. Faults come from a deck that is shuffled when it is empty, so that
every kind strikes once before any strikes twice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tests.faults.networked import MODEL, POSTGRES, REDIS, Link

Part = str | Link  # what a fault is at

WORKERS: Final = ("orchestrator-1", "orchestrator-2")
GATEWAYS: Final = ("api-1", "api-2")
PERSISTERS: Final = ("persister-1", "persister-2")
SERVICES: Final = (*WORKERS, *GATEWAYS, *PERSISTERS)
STORES: Final = (REDIS, POSTGRES)
CLIENTS: Final = "clients"

TO_STORES: Final[tuple[Link, ...]] = tuple((name, store) for name in SERVICES for store in STORES)
TO_MODEL: Final[tuple[Link, ...]] = tuple((name, MODEL) for name in WORKERS)
TO_GATEWAYS: Final[tuple[Link, ...]] = tuple((CLIENTS, name) for name in GATEWAYS)
LINKS: Final = (*TO_STORES, *TO_MODEL)  # those that the cluster itself has
ALL_LINKS: Final = (*LINKS, *TO_GATEWAYS)
ARCHIVERS: Final = frozenset[Part]((POSTGRES,))  # what a loss costs is told by what it holds
FOR_GOOD: Final = tuple(link for link in ALL_LINKS if link[1] != POSTGRES)

BETWEEN_QUESTIONS_SECONDS: Final = (0.1, 0.8)
BETWEEN_STRIKES_SECONDS: Final = (0.1, 1.0)
SHORT: Final = (0.2, 2.0)
LONG: Final = (0.5, 4.0)  # less than a lease, and more
CANCELLED: Final = 0.2  # of the questions
CANCEL_SECONDS: Final = {"quick": (0.0, 0.4), "steady": (0.4, 1.2)}  # about when they are done
CANCEL_SECONDS_ELSE: Final = (0.0, 3.0)
IN_A_KNOWN_THREAD: Final = 0.3

HEALTHY: Final = ("quick", "quick", "steady", "steady", "slow", "slow", "steady-long", "long")
ONCE: Final[Mapping[str, str]] = {
    "cut": "cut_after=5",
    "stalled": "hang_after=5",
    "silent": "hang_before_first",
    "half-json": "half_json_after=5",
    "bad-utf8": "bad_utf8_after=5",
    "error": "error_in_stream_after=5",
    "no-final": "no_final",
    "broken": "status=500",
    "limited": "status=429,retry_after=1",
    "long-line": "long_line=2000000",
}
ONCE_EACH: Final = 12
FAILING: Final[Mapping[str, str]] = {
    "unauthorized": "fake:status=401",
    "always-broken": "fake:status=500",
    "always-limited": "fake:status=429,retry_after=60",
    "always-cut": "fake:tokens=20,cut_after=5",
    "always-half-json": "fake:tokens=20,half_json_after=5",
}
UNUSUAL: Final[Mapping[str, str]] = {
    "blocking": "fake:tokens=60,delay_ms=10,id=blocking",
    "newer": "fake:tokens=60,delay_ms=10,id=newer",
    "no-finish": "fake:tokens=20,no_finish",
}
HEALTHY_OF_ALL: Final = 0.65
OTHERWISE: Final = (*ONCE, *ONCE, *FAILING, *UNUSUAL)


def models() -> dict[str, str]:
    """The agents that a storm needs besides the usual ones, by name: the scripts of their models.
    A fault that is met once needs a script of its own each time."""
    once = {
        f"{name}-{number}": f"fake:tokens=60,delay_ms=10,{fault},times=1,id=storm{number}"
        for name, fault in ONCE.items()
        for number in range(ONCE_EACH)
    }
    return {**once, **FAILING, **UNUSUAL}


@dataclass(frozen=True)
class Question:
    """`thread` picks one of the known threads, from 0 to 1. `cancels`: so many seconds later."""

    pause: float
    agent: str
    thread: float | None
    viewers: int
    cancels: tuple[float, ...]

    @property
    def fails(self) -> bool:
        """Whether the model sees to it that there is no answer."""
        return self.agent in FAILING


@dataclass(frozen=True)
class Kind:
    """A kind of fault. `besides`: the parts it is at, besides its target."""

    targets: tuple[Part, ...]
    seconds: tuple[float, float] = (0.0, 0.0)
    besides: frozenset[Part] = frozenset()


@dataclass(frozen=True)
class Strike:
    """One fault. `seed` is for what else is to be drawn."""

    pause: float
    name: str
    target: Part
    seconds: float
    seed: int

    @property
    def parts(self) -> frozenset[Part]:
        """Which no other fault may be at meanwhile."""
        return KINDS[self.name].besides | {self.target}


KINDS: Final[Mapping[str, Kind]] = {
    "kill": Kind(SERVICES),
    "terminate": Kind(SERVICES),
    "freeze": Kind(SERVICES, LONG),
    "away": Kind(SERVICES, LONG),
    "clock jumps": Kind(SERVICES, LONG, frozenset(("clock",))),
    "store killed": Kind(STORES),
    "store terminated": Kind(STORES),
    "store frozen": Kind(STORES, SHORT),
    "store away": Kind(STORES, LONG),
    "Redis loses its tail": Kind((REDIS,), (0.3, 1.2), ARCHIVERS),
    "Redis is emptied": Kind((REDIS,), besides=ARCHIVERS),
    "Redis memory full": Kind((REDIS,), SHORT),
    "Redis disk full": Kind((REDIS,), SHORT),
    "groups destroyed": Kind((REDIS,)),
    "commands deleted": Kind((REDIS,)),
    "scripts forgotten": Kind((REDIS,)),
    "Postgres disk full": Kind((POSTGRES,), SHORT),
    "Postgres read-only": Kind((POSTGRES,), SHORT),
    "deadlock": Kind((POSTGRES,)),
    "serialization failure": Kind((POSTGRES,)),
    "sessions ended": Kind((POSTGRES,)),
    "black hole": Kind(ALL_LINKS, LONG),
    "replies dropped": Kind(ALL_LINKS, SHORT),
    "replies cut": Kind(ALL_LINKS, SHORT),
    "reply never comes": Kind(FOR_GOOD, SHORT),
    "all connections cut": Kind(ALL_LINKS),
    "refused": Kind(ALL_LINKS, SHORT),
    "slow link": Kind(ALL_LINKS, LONG),
    "byte by byte": Kind(ALL_LINKS, SHORT),
    "poison": Kind(("poison",)),
    "slow clients": Kind(("slow clients",), SHORT),
    "clients vanish": Kind(("vanishing clients",)),
}


def questions(chance: random.Random) -> Iterator[Question]:
    """Who asks what, in which order."""
    met = dict.fromkeys(ONCE, 0)
    while True:
        healthy = chance.random() < HEALTHY_OF_ALL
        agent = chance.choice(HEALTHY if healthy else OTHERWISE)
        between = CANCEL_SECONDS.get(agent, CANCEL_SECONDS_ELSE)
        if agent in met:
            met[agent] += 1
            agent = f"{agent}-{(met[agent] - 1) % ONCE_EACH}"
        cancelled = chance.random() < CANCELLED
        known = chance.random() < IN_A_KNOWN_THREAD
        yield Question(
            pause=chance.uniform(*BETWEEN_QUESTIONS_SECONDS),
            agent=agent,
            thread=chance.random() if known else None,
            viewers=chance.choice((1, 1, 2)),
            cancels=_drawn(chance, between, chance.choice((1, 2))) if cancelled else (),
        )


def strikes(chance: random.Random) -> Iterator[Strike]:
    """Which fault strikes whom, in which order, and for how long."""
    while True:
        deck = sorted(KINDS)
        chance.shuffle(deck)
        for name in deck:
            kind = KINDS[name]
            yield Strike(
                pause=chance.uniform(*BETWEEN_STRIKES_SECONDS),
                name=name,
                target=chance.choice(kind.targets),
                seconds=chance.uniform(*kind.seconds),
                seed=chance.getrandbits(32),
            )


def _drawn(chance: random.Random, between: tuple[float, float], count: int) -> tuple[float, ...]:
    return tuple(chance.uniform(*between) for _ in range(count))
