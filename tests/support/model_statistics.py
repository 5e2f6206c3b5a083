"""What the model server saw, for tests to ask: counters, and the newest requests one by one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal

import orjson

RECORDS_MAX = 1000
NAMES_MAX = 10_000
UNTIL_SECONDS_MAX = 5.0

Outcome = Literal["open", "completed", "aborted", "cut", "refused"]


def _now_ms() -> float:
    """CLOCK_MONOTONIC, which all processes of a machine share."""
    return time.monotonic() * 1000


@dataclass(slots=True)
class Record:
    """One request. Times are milliseconds, ``wall_ended_ms`` since the epoch, others monotonic."""

    model: str
    started_ms: float
    tokens: int = 0
    outcome: Outcome = "open"
    ended_ms: float | None = None
    wall_ended_ms: float | None = None


@dataclass(slots=True)
class Statistics:
    """What the server saw. Counters are exact; the records are the newest ``RECORDS_MAX``."""

    requests: int = 0
    open_streams: int = 0
    open_connections: int = 0
    tokens: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    records: deque[Record] = field(default_factory=lambda: deque(maxlen=RECORDS_MAX))
    asked: Counter[str] = field(default_factory=Counter)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def completed(self) -> int:
        return self.outcomes["completed"]

    @property
    def aborted(self) -> int:
        """Answers that the client left before their end."""
        return self.outcomes["aborted"]

    @property
    def aborts(self) -> list[Record]:
        return [record for record in self.records if record.outcome == "aborted"]

    def begin(self, model: str) -> Record:
        record = Record(model, _now_ms())
        self.requests += 1
        self.open_streams += 1
        self.records.append(record)
        self.changed.set()
        return record

    def end(self, record: Record, outcome: Outcome) -> None:
        record.outcome = outcome
        record.ended_ms, record.wall_ended_ms = _now_ms(), time.time() * 1000
        self.open_streams -= 1
        self.outcomes[outcome] += 1
        self.tokens += record.tokens
        self.changed.set()

    def connections_changed(self, by: int) -> None:
        self.open_connections += by
        self.changed.set()

    def asked_before(self, model: str) -> int:
        """How often this very name was asked for until now; counts this time."""
        if len(self.asked) >= NAMES_MAX:
            self.asked.clear()
        self.asked[model] += 1
        return self.asked[model] - 1

    async def until(self, condition: Callable[[Statistics], bool]) -> None:
        """Wait for a condition on the statistics. TimeoutError after ``UNTIL_SECONDS_MAX``.

        Looked at whenever a request or connection begins or ends, not at every token.
        """
        async with asyncio.timeout(UNTIL_SECONDS_MAX):
            while not condition(self):
                self.changed.clear()
                await self.changed.wait()

    def reset(self) -> None:
        """Forget the past. Streams that run now will end in the new counters."""
        self.requests = self.tokens = 0
        for forgotten in (self.outcomes, self.records, self.asked):
            forgotten.clear()

    def as_json(self) -> bytes:
        return orjson.dumps(
            {
                "requests": self.requests,
                "open_streams": self.open_streams,
                "open_connections": self.open_connections,
                "tokens": self.tokens,
                "completed": self.completed,
                "aborted": self.aborted,
                "cut": self.outcomes["cut"],
                "refused": self.outcomes["refused"],
                "aborts": [asdict(record) for record in self.aborts],
                "records": [asdict(record) for record in self.records],
            }
        )
