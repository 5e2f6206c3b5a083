"""A made-up log of any length: the same events for the same seed, batch by batch, in any order.

    partition ─▶ cohorts of threads, one after the other ─▶ rounds: each thread asks once a round

So a thread's messages lie as far apart in the tables as those of people do who talk for a while,
and each batch can be made from its number alone. Two users are known by name: `heavy` has about
HEAVY_MESSAGES, `light` has LIGHT_ROUNDS questions with their answers.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from services.persister.batch import Entry
from shared.codec import encode
from shared.events import Done, JobEvent, MessagePosted, Started, ThreadCreated, ThreadEvent, Token
from shared.ids import partition_of_thread
from shared.times import rfc3339
from tests.bench.languages import Writer

PARTITIONS = 8
THREADS = 400  # of a cohort
ROUNDS = 20  # of a cohort
MEAN_ROUNDS = 7.1  # of a thread
HEAVY, HEAVY_MESSAGES = "heavy", 100_000
LIGHT, LIGHT_ROUNDS = "light", 5
MESSAGES_PER_USER = 200
BEGAN_MS = 1_735_689_600_000  # 2025-01-01
STEP_MS = 600_000  # between two batches of a partition


@dataclass(frozen=True)
class Talk:
    """A thread to be: who owns it, and how often they ask."""

    thread_id: str
    owner: str
    rounds: int
    seed: str


@dataclass(frozen=True)
class Corpus:
    seed: int
    messages: int

    @property
    def batches(self) -> int:
        """Of each partition."""
        cohort = PARTITIONS * THREADS * MEAN_ROUNDS * 2
        return ROUNDS * max(1, round(self.messages / cohort))

    def batch(self, partition: int, number: int) -> list[Entry]:
        cohort, turn = divmod(number, ROUNDS)
        moment = BEGAN_MS + number * STEP_MS
        written: list[Entry] = []
        for talk in self.talks(partition, cohort):
            if turn < talk.rounds:
                for fields in _events(talk, partition, turn, moment + len(written)):
                    written.append((b"%d-%d" % (moment, len(written)), fields))
        return written

    @lru_cache(maxsize=2 * PARTITIONS)  # noqa: B019 -- there is one corpus in a process
    def talks(self, partition: int, cohort: int) -> list[Talk]:
        return [
            self._talk(partition, f"{self.seed}/{partition}/{cohort}/{n}") for n in range(THREADS)
        ]

    def _talk(self, partition: int, seed: str) -> Talk:
        chance = random.Random(seed)
        rounds = min(ROUNDS, 1 + int(chance.expovariate(1 / 7)))
        users = max(1, self.messages // MESSAGES_PER_USER)
        owner = f"user-{int(users * chance.random() ** 2):06d}"
        if chance.random() < HEAVY_MESSAGES / self.messages:
            owner = HEAVY
        if seed == f"{self.seed}/0/0/0":
            owner, rounds = LIGHT, LIGHT_ROUNDS
        return Talk(_thread_id(seed, partition), owner, rounds, seed)


def number_after(log_ms: int) -> int:
    """The number of the batch that follows the one with this time."""
    return (log_ms - BEGAN_MS) // STEP_MS + 1


def _thread_id(seed: str, partition: int) -> str:
    for nonce in range(1000):
        digest = hashlib.sha256(f"{seed}#{nonce}".encode()).hexdigest()
        if partition_of_thread(name := f"thr_{digest[:32]}", PARTITIONS) == partition:
            return name
    raise AssertionError(f"no id of partition {partition} is found")


def _events(talk: Talk, partition: int, turn: int, moment: int) -> Iterator[dict[bytes, bytes]]:
    """What is said in one turn of a thread; its first turn also makes it."""
    writer = Writer(random.Random(f"{talk.seed}:{turn}"))
    at = rfc3339(datetime.fromtimestamp(moment / 1000, UTC))
    digest = hashlib.sha256(f"{talk.seed}:{turn}".encode()).hexdigest()
    named = f"{partition:02x}{digest[:30]}"
    job_id, question_id, reply_id = f"job_{named}00", f"msg_{named}01", f"msg_{named}02"
    thread_id, place = talk.thread_id, 4 * turn + 2
    if turn == 0:
        created = ThreadCreated(
            thread_id=thread_id, at=at, owner=talk.owner, title=writer.title(), agent="default"
        )
        yield _fields(thread_id, 1, thread_id, 1, created)
    question, answer = writer.question(), writer.answer()
    posted = MessagePosted(
        thread_id=thread_id, at=at, message_id=question_id, job_id=job_id, reply_id=reply_id,
        user=talk.owner, content=question, agent="default", trace_id=digest[:32],
    )  # fmt: skip
    yield _fields(thread_id, place, thread_id, turn + 2, posted)
    of_job: dict[str, Any] = {"job_id": job_id, "attempt": 1, "at": at}
    events = (
        Started(**of_job, seq=1, agent="default", model="made-up"),
        Token(**of_job, seq=2, content=answer, deltas=40),
        Done(**of_job, seq=3, status="done", content=answer, message_id=reply_id,
             finish_reason="stop", latency_ms=900),
    )  # fmt: skip
    for event in events:
        yield _fields(thread_id, place + event.seq, job_id, event.seq, event)


def _fields(
    thread_id: str, position: int, stream: str, seq: int, event: JobEvent | ThreadEvent
) -> dict[bytes, bytes]:
    return {
        b"h": thread_id.encode(),
        b"p": b"%d" % position,
        b"j": stream.encode(),
        b"s": b"%d" % seq,
        b"t": event.type.encode(),
        b"d": encode(event),
    }
