"""What orchestrators do to the log: take commands, begin, append, end, and come back as zombies."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, multiple, rule

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


class WorkerRules(DrivenLog):
    @rule(target=workers, partition=partitions, consumer=consumers)
    def take_a_job(self, partition: int, consumer: str) -> Worker | MultipleResults[Worker]:
        """What a worker at rest does: take a new command, or an abandoned one, and begin."""
        delivery = self.deliver(partition, consumer)
        if isinstance(delivery, Delivery):
            return self.begin(delivery)
        claimed = self.claim_all(partition, consumer)
        return self.begin(claimed[0]) if claimed else multiple()

    def claim_all(self, partition: int, consumer: str) -> list[Delivery]:
        claimed = self.run(self.server.claim_all(partition, consumer))
        commands = self.model.partitions[partition].commands
        assert [delivery.command.job_id for delivery in claimed] == [
            job_id for job_id in commands if self.model.claim(job_id, consumer)
        ]
        return claimed

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
        assert begun.lease.first == job.first
        return Worker(begun.lease, delivery.consumer, begun.outcome != "BEGUN")

    @rule(
        worker=workers,
        back=st.sampled_from([0, 0, 1, 3]),
        contents=st.lists(pieces, max_size=3),
        hole=st.sampled_from([0, 0, 0, 1]),
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
            self._append(worker, again + more, worker.final if again else None)
        if worker.final is None and not hole:
            worker.remember(more)

    @rule(one=workers, other=workers, contents=st.lists(pieces, min_size=2, max_size=2))
    def append_together(self, one: Worker, other: Worker, contents: list[str]) -> None:
        """Two workers of one process, in one round trip."""
        pair = [worker for worker in (one, other) if not worker.must_end and not worker.final]
        if len(pair) < 2 or one is other:
            return
        events = [worker.tokens([text]) for worker, text in zip(pair, contents, strict=True)]
        calls = [
            Append(worker.lease, [event for event, _ in sent])
            for worker, sent in zip(pair, events, strict=True)
        ]
        answers = self.run(self.server.log.append_many(calls))
        for worker, sent, answer in zip(pair, events, answers, strict=True):
            assert answer == self._model_append(worker, sent)
            worker.remember(sent)

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
        self._append(worker, events, status)
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
        assert (renewed.kept, renewed.cancel) == expected

    @rule(worker=workers)
    def release(self, worker: Worker) -> None:
        lease, consumer = worker.lease, worker.consumer
        released = self.run(self.server.log.release_lease(lease, consumer))
        expected = self.model.release(lease.job_id, consumer, worker.fence)
        assert released == (expected and not self.redis.repeats)

    def _append(
        self,
        worker: Worker,
        events: list[tuple[NumberedEvent, Facts]],
        final: FinalStatus | None = None,
    ) -> None:
        dead_reason = "given up" if final == "failed" and worker.must_end else ""
        call = Append(worker.lease, [event for event, _ in events], final, dead_reason)
        answer = self.run(self.server.log.append_events(call))
        expected = self._model_append(worker, events, final, dead_reason)
        if self.redis.repeats and expected.code == "OK":
            cancel = self.model.jobs[worker.lease.job_id].cancel
            expected = Appended("DUPLICATE", expected.last_seq, cancel)
        assert answer == expected

    def _model_append(
        self,
        worker: Worker,
        events: list[tuple[NumberedEvent, Facts]],
        final: FinalStatus | None = None,
        dead_reason: str = "",
    ) -> Appended:
        placed = [(event.seq, event.type, facts) for event, facts in events]
        lease = worker.lease
        code, last, cancel = self.model.append(
            lease.job_id, worker.fence, placed, final, dead_reason
        )
        return Appended(code, last, cancel)  # type: ignore[arg-type]  # the model's codes are these
