"""The log of steps: how each thread, message and job has gone through its states, for a day.

The scripts that move a thing note it in the same step (``record`` in scripts/prelude.lua), so the
log cannot say what did not happen. It is for operators; nothing else reads it. Tokens leave no
trace here, and whoever wants the events themselves reads the thread.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from shared.keys import PartitionKeys
from shared.redis_client import Redis, translate

PAGE_STEPS: Final = 2000


@dataclass(frozen=True, slots=True)
class Step:
    """One move. ``source`` is '' where a thing begins; from a state to itself: another attempt.

    ``by`` is a user, a worker, or what did it instead of one: `cancel`, `persister`, `restored`,
    `resumed`.
    """

    at: datetime  # by the server's clock
    id: str
    source: str
    target: str
    by: str
    thread_id: str
    job_id: str  # of a message, else ''

    def concerns(self, thing: str) -> bool:
        """Whether it is a step of that thing, or of something that belongs to it."""
        return thing in (self.id, self.job_id, self.thread_id)


class Transitions:
    """Reads the log. Stateless."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def of(self, thing: str, partition: int) -> AsyncGenerator[Step]:
        """Its steps and those of what belongs to it, oldest first. Raises LogUnavailable.

        ``thing`` is the id of a thread, message or job; a job's messages belong to it.
        """
        key, after = PartitionKeys(partition).transitions, "-"
        while True:
            with translate():
                page = cast("Any", await self._redis.xrange(key, min=after, count=PAGE_STEPS))
            for entry_id, fields in page:
                step = _step(entry_id, fields)
                if step.concerns(thing):
                    yield step
            if len(page) < PAGE_STEPS:
                return
            after = f"({page[-1][0].decode()}"


def _step(entry_id: bytes, fields: dict[bytes, bytes]) -> Step:
    milliseconds = int(entry_id.split(b"-", 1)[0])
    said = {name: value.decode(errors="backslashreplace") for name, value in fields.items()}
    return Step(
        datetime.fromtimestamp(milliseconds / 1000, UTC),
        id=said[b"i"],
        source=said[b"f"],
        target=said[b"t"],
        by=said[b"by"],
        thread_id=said[b"h"],
        job_id=said[b"j"],
    )
