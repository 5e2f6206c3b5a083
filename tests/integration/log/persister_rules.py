"""What persisters and time do to the log: read, project, report, acknowledge, trim, let go."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, multiple, precondition, rule

from tests.integration.log.driven_log import DrivenLog, batches, partitions, threads
from tests.support.retention_model import Batch

PROCESSING, COMMITTED, REPORTED, ACKNOWLEDGED, TRIMMED = range(5)
LOG_READ_MAX = 1000
consumers = st.sampled_from(["p1", "p2"])


@dataclass(frozen=True, slots=True, eq=False)
class ReadBatch:
    partition: int
    entries: Batch
    ids: list[bytes]


class PersisterRules(DrivenLog):
    @rule(target=batches, partition=partitions, consumer=consumers, count=st.integers(0, 6))
    def read_log(
        self, partition: int, consumer: str, count: int
    ) -> ReadBatch | MultipleResults[ReadBatch]:
        """Read new entries; with a count of 0 take over all that others read and left."""
        if count:
            ids = self.run(self.server.read_log(partition, consumer, count))
            entries = self.retention.read(partition, count)
        else:
            ids = self.run(self.server.take_over_log(partition, consumer, LOG_READ_MAX))
            entries = self.retention.pending(partition)
        assert len(ids) == len(entries)
        return ReadBatch(partition, entries, ids) if ids else multiple()

    @rule(batch=batches, until=st.integers(PROCESSING, TRIMMED))
    def project(self, batch: ReadBatch, until: int) -> None:
        """Work on a batch, and stop or die after one of the steps. Batches may come twice."""
        positions = self.retention.report_processing(batch.entries)
        self.run(self.server.retention.report(batch.partition, "processing", positions))
        if until >= COMMITTED:
            self.retention.commit(batch.entries)
        if until >= REPORTED:
            whole, jobs = self.retention.whole(batch.entries)
            self.retention.report_archived(whole, jobs)
            report = self.server.retention.report
            self.run(report(batch.partition, "archived", whole, finished_jobs=jobs))
        if until >= ACKNOWLEDGED:
            self.retention.acknowledge(batch.partition, batch.entries)
            self.run(self.server.acknowledge(batch.partition, batch.ids))
        if until >= TRIMMED:
            removed = self.run(self.server.retention.trim(batch.partition))
            expected = self.retention.trim(batch.partition)
            assert removed == (0 if self.redis.repeats else expected)

    @rule(partition=partitions)
    def archive_everything(self, partition: int) -> None:
        """A persister that keeps up."""
        self.read_log(partition, "p1", LOG_READ_MAX)
        batch = self.read_log(partition, "p1", 0)
        if isinstance(batch, ReadBatch):
            self.project(batch, TRIMMED)

    @precondition(DrivenLog.may_let_go)
    @rule(thread=threads)
    def let_go(self, thread: str) -> None:
        """Idle time has passed. The comparison after every step saw what has a TTL."""
        known, keys = self.model.threads.get(thread), self.server.keys(thread)
        if known is not None and known.expires:
            self.run(self.redis.unlink(keys.thread(thread), keys.thread_events(thread)))
            self.retention.expire_thread(thread)
        for job in self.model.jobs.values():
            if job.thread_id == thread and job.expires:
                self.run(self.redis.unlink(keys.job(job.job_id)))
                self.retention.expire_job(job.job_id)

    @rule()
    def forget_scripts(self) -> None:
        """What a restart of the server does to clients that know scripts by their hash."""
        self.run(self.redis.script_flush())
