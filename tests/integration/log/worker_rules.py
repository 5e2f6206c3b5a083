"""What orchestrators do to the log: take commands, begin, append, end, and come back as zombies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, multiple, precondition, rule

from shared.event_log import Append, Appended, EventLog, Lease, NumberedEvent
from shared.events import FinalStatus
from shared.redis_scripts import run
from tests.integration.log.driven_log import (
    DrivenLog,
    deliveries,
    partitions,
    workers,
)
from tests.support.log_server import Delivery, done, error, token

Facts = dict[str, object]
consumers = st.sampled_from(["w1", "w2"])
pieces = st.sampled_from(["a", "b\nc", "\u2028\x00", "𝄞 "])
texts = st.lists(pieces, max_size=3)


@dataclass(slots=True, eq=False)
class Worker:
    """One attempt and what its worker believes: all it sent, accepted or not."""

    lease: Lease
    consumer: str
    must_end: bool  # begin said CANCELLED or EXHAUSTED: only the end may follow
    sent: list[tuple[NumberedEvent, Facts]] = field(
        default_factory=list[tuple[NumberedEvent, Facts]]
    )
    text: str = ""
    final: FinalStatus | None = None

    @property
    def next_seq(self) -> int:
        return self.lease.seq + len(self.sent) + 1

    @property
    def fence(self) -> tuple[int, str]:
        return (self.lease.attempt, self.lease.owner_token)

    def tokens(self, contents: list[str], hole: int = 0) -> list[tuple[NumberedEvent, Facts]]:
        """The next events, or with a hole in front what comes after events that got lost."""
        return [
            (token(self.lease, seq, content), {"content": content, "attempt": self.lease.attempt})
            for seq, content in enumerate(contents, start=self.next_seq + hole)
        ]

    def remember(self, events: list[tuple[NumberedEvent, Facts]]) -> None:
        self.sent += events
        self.text += "".join(str(facts.get("content", "")) for _, facts in events)


class Sending(NamedTuple):
    """One append of one worker."""

    worker: Worker
    events: list[tuple[NumberedEvent, Facts]]
    final: FinalStatus | None = None

    @property
    def dead_reason(self) -> str:
        return "given up" if self.final == "failed" and self.worker.must_end else ""

    def call(self) -> Append:
        events = [event for event, _ in self.events]
        return Append(self.worker.lease, events, self.final, self.dead_reason)


class WorkerRules(DrivenLog):
    @precondition(DrivenLog.has_commands)
    @rule(target=workers, partition=partitions, consumer=consumers, contents=texts)
    def take_a_job(
        self, partition: int, consumer: str, contents: list[str]
    ) -> Worker | MultipleResults[Worker]:
        """What a worker at rest does: take a new command or an abandoned one, begin, append."""
        delivery = self.deliver(partition, consumer)
        if not isinstance(delivery, Delivery):
            claimed = self.claim_all(partition, consumer)
            if not claimed:
                return multiple()
            delivery = claimed[0]
        worker = self.begin(delivery)
        if isinstance(worker, Worker):
            self.append(worker, back=0, contents=contents, hole=0)
        return worker

    @precondition(DrivenLog.has_commands)
    @rule(target=workers, partition=partitions, late_first=st.booleans())
    def race_for_a_job(self, partition: int, late_first: bool) -> MultipleResults[Worker]:
        """One worker is slow to begin; another finds the command idle and takes it."""
        delivery = self.deliver(partition, "w1")
        if not isinstance(delivery, Delivery):
            return multiple()
        claimed = self.claim(delivery, "w2")
        assert isinstance(claimed, Delivery)
        racers = (claimed, delivery) if late_first else (delivery, claimed)
        begun = [self.begin(racer) for racer in racers]
        return multiple(*(worker for worker in begun if isinstance(worker, Worker)))

    def claim_all(self, partition: int, consumer: str) -> list[Delivery]:
        claimed = self.run(self.server.claim_all(partition, consumer))
        commands = self.model.partitions[partition].commands
        assert [delivery.command.job_id for delivery in claimed] == [
            job_id for job_id in commands if self.model.claim(job_id, consumer)
        ]
        return claimed

    @precondition(DrivenLog.has_commands)
    @rule(target=deliveries, partition=partitions, consumer=consumers)
    def deliver(self, partition: int, consumer: str) -> Delivery | MultipleResults[Delivery]:
        delivery = self.run(self.server.deliver(partition, consumer))
        job_id = delivery.command.job_id if delivery else None
        assert job_id == self.model.deliver(partition, consumer)
        return delivery or multiple()

    @rule(target=deliveries, delivery=deliveries, consumer=consumers)
    def claim(self, delivery: Delivery, consumer: str) -> Delivery | MultipleResults[Delivery]:
        claimed = self.run(self.server.claim(delivery, consumer))
        assert (claimed is not None) == self.model.claim(delivery.command.job_id, consumer)
        return claimed or multiple()

    @rule(target=workers, delivery=deliveries)
    def begin(self, delivery: Delivery) -> Worker | MultipleResults[Worker]:
        job_id = delivery.command.job_id
        begun = self.run(self.server.begin(delivery))
        owner_token = begun.lease.owner_token if begun.lease else ""
        assert begun.outcome == self.model.begin(job_id, delivery.consumer, owner_token)
        if begun.lease is None:
            assert begun.outcome in ("ENDED", "LOST", "UNKNOWN")
            return multiple()
        job = self.model.jobs[job_id]
        assert (begun.lease.attempt, begun.lease.seq) == (job.attempt, job.seq)
        assert (begun.lease.first, begun.lease.handovers) == (job.first, job.handovers)
        return Worker(begun.lease, delivery.consumer, begun.outcome != "BEGUN")

    @rule(
        worker=workers,
        back=st.sampled_from([0, 0, 1, 3]),
        contents=texts,
        hole=st.integers(0, 1),
    )
    def append(self, worker: Worker, back: int, contents: list[str], hole: int) -> None:
        """New events; or sent ones again, whose reply was lost, perhaps with new ones behind."""
        again = worker.sent[len(worker.sent) - back :] if back else []
        if worker.must_end and not again:
            return
        hole = 0 if again else hole
        may_add = worker.final is None or not again
        more = worker.tokens(contents, hole) if may_add and not worker.must_end else []
        if again or more:
            self._send(Sending(worker, again + more, worker.final if again else None))
        if worker.final is None and not hole:
            worker.remember(more)

    @rule(one=workers, other=workers, contents=st.lists(pieces, min_size=2, max_size=2))
    def append_together(self, one: Worker, other: Worker, contents: list[str]) -> None:
        """Two workers of one process, in one round trip."""
        pair = [worker for worker in (one, other) if not worker.must_end and not worker.final]
        if len(pair) < 2 or one is other:
            return
        sendings = [
            Sending(worker, worker.tokens([text]))
            for worker, text in zip(pair, contents, strict=True)
        ]
        self._send(*sendings)
        for worker, events, _ in sendings:
            worker.remember(events)

    @rule(worker=workers, status=st.sampled_from(["done", "failed", "cancelled"]))
    def finish(self, worker: Worker, status: FinalStatus) -> None:
        if worker.final is not None:
            return
        job = self.model.jobs[worker.lease.job_id]
        if worker.must_end:
            status = "cancelled" if job.cancel or not worker.lease.attempt else "failed"
        attempt: Facts = {"attempt": worker.lease.attempt}
        seq, events = worker.next_seq, list[tuple[NumberedEvent, Facts]]()
        if status == "failed":
            events.append((error(worker.lease, seq), attempt))
            seq += 1
        text = self._text_so_far(worker)
        last = done(worker.lease, seq, status, text)
        events.append((last, {**attempt, "status": status, "content": text}))
        worker.final = status
        self._send(Sending(worker, events, status))
        worker.sent += events

    def _text_so_far(self, worker: Worker) -> str:
        """A worker that only ends a job takes the text of the last attempt from the stream."""
        if not worker.must_end:
            return worker.text
        thread = self.model.threads[worker.lease.thread_id]
        return "".join(
            str(event.facts["content"])
            for event in thread.events
            if event.stream == worker.lease.job_id
            and event.type == "token"
            and event.facts["attempt"] == worker.lease.attempt
        )

    @rule(worker=workers)
    def renew(self, worker: Worker) -> None:
        lease, consumer = worker.lease, worker.consumer
        reply = self.run(run(self.redis, self.server.log.renew_call(lease, consumer)))
        renewed = EventLog.renewed(reply)
        expected = self.model.renew(lease.job_id, consumer, worker.fence)
        assert (renewed.kept, renewed.cancel, renewed.rewound) == expected

    @rule(worker=workers)
    def release(self, worker: Worker) -> None:
        lease, consumer = worker.lease, worker.consumer
        released = self.run(self.server.log.release_lease(lease, consumer))
        expected = self.model.release(lease.job_id, consumer, worker.fence)
        assert released == (expected and not self.redis.repeats)

    def _send(self, *sendings: Sending) -> None:
        answers = self._answers([sending.call() for sending in sendings])
        expected = [self._append_to_model(sending) for sending in sendings]
        if self.redis.repeats:  # only the answers to the second sending arrive
            expected = [self._append_to_model(sending) for sending in sendings]
        assert answers == expected

    def _answers(self, calls: list[Append]) -> list[Appended | Exception]:
        if len(calls) == 1:
            return [self.run(self.server.log.append_events(calls[0]))]
        repeats, self.redis.repeats = self.redis.repeats, False  # a round trip repeats as a whole
        answers = [self.run(self.server.log.append_many(calls)) for _ in range(1 + repeats)]
        self.redis.repeats = repeats
        return answers[-1]

    def _append_to_model(self, sending: Sending) -> Appended:
        worker, events, final = sending
        code, last, cancel = self.model.append(
            worker.lease.job_id,
            worker.fence,
            [(event.seq, event.type, facts) for event, facts in events],
            final,
            sending.dead_reason,
        )
        return Appended(code, last, cancel)  # type: ignore[arg-type]  # the model's codes are these
