"""What persisters and time do to the log: read, project, report, acknowledge, trim, let go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, multiple, rule

from shared.keys import PERSISTERS, PartitionKeys
from tests.integration.log.driven_log import DrivenLog, batches, partitions, posts, threads
from tests.support.log_state import Post
from tests.support.retention_model import Batch

PROCESSING, COMMITTED, REPORTED, ACKNOWLEDGED = range(4)
LOG_READ_MAX = 1000
consumers = st.sampled_from(["p1", "p2"])


@dataclass(frozen=True, slots=True, eq=False)
class ReadBatch:
    partition: int
    entries: Batch
    ids: list[bytes]


class PersisterRules(DrivenLog):
    @rule(target=batches, partition=partitions, consumer=consumers, count=st.integers(1, 6))
    def read_log(
        self, partition: int, consumer: str, count: int
    ) -> ReadBatch | MultipleResults[ReadBatch]:
        ids = self.run(self.server.read_log(partition, consumer, count))
        entries = self.retention.read(partition, count)
        assert len(ids) == len(entries)
        return ReadBatch(partition, entries, ids) if ids else multiple()

    @rule(target=batches, partition=partitions, consumer=consumers)
    def take_over_log(
        self, partition: int, consumer: str
    ) -> ReadBatch | MultipleResults[ReadBatch]:
        """A persister died: another gets what it had not acknowledged."""
        stream = PartitionKeys(partition).log
        reply: Any = self.run(self.redis.xautoclaim(stream, PERSISTERS, consumer, 0, "0-0"))
        entries = self.retention.pending(partition)
        assert len(reply[1]) == len(entries)
        ids = [entry_id for entry_id, _ in reply[1]]
        return ReadBatch(partition, entries, ids) if ids else multiple()

    @rule(batch=batches, until=st.integers(PROCESSING, ACKNOWLEDGED))
    def project(self, batch: ReadBatch, until: int) -> None:
        """Work on a batch, and stop or die after one of the steps. Batches may come twice."""
        positions = self.retention.report_processing(batch.entries)
        self.run(self.server.retention.report(batch.partition, "processing", positions))
        if until >= COMMITTED:
            self.retention.commit(batch.entries)
        if until >= REPORTED:
            whole, jobs = self.retention.whole(batch.entries)
            self.retention.report_archived(whole, jobs)
            self.run(
                self.server.retention.report(batch.partition, "archived", whole, finished_jobs=jobs)
            )
        if until >= ACKNOWLEDGED:
            self.retention.acknowledge(batch.partition, batch.entries)
            self.run(self.server.acknowledge(batch.partition, batch.ids))

    @rule(partition=partitions)
    def archive_everything(self, partition: int) -> None:
        """A persister that keeps up: it reads, projects, acknowledges all there is, and trims."""
        self.read_log(partition, "p1", LOG_READ_MAX)
        batch = self.take_over_log(partition, "p1")
        if isinstance(batch, ReadBatch):
            self.project(batch, ACKNOWLEDGED)
        self.trim(partition)

    @rule(partition=partitions)
    def trim(self, partition: int) -> None:
        removed = self.run(self.server.retention.trim(partition))
        expected = self.retention.trim(partition)
        assert removed == (0 if self.redis.repeats else expected)

    @rule(thread=threads)
    def let_a_thread_go(self, thread: str) -> None:
        """Its idle time has passed. The comparison after every step saw that it has a TTL."""
        known = self.model.threads.get(thread)
        if known is not None and known.expires:
            keys = self.server.keys(thread)
            self.run(self.redis.unlink(keys.thread(thread), keys.thread_events(thread)))
            self.retention.expire_thread(thread)

    @rule(post=posts)
    def let_a_job_go(self, post: Post) -> None:
        if self.model.jobs[post.job_id].expires:
            self.run(self.redis.unlink(self.server.keys(post.thread_id).job(post.job_id)))
            self.retention.expire_job(post.job_id)

    @rule()
    def forget_scripts(self) -> None:
        """What a restart of the server does to clients that know scripts by their hash."""
        self.run(self.redis.script_flush())
