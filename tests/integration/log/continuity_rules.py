"""What happens to the log around a loss: partitions close, and rights are open until asked for."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis.stateful import rule

from shared.continuity import Continuity
from shared.errors import LogUnavailable
from shared.event_log import Append
from shared.events import ThreadCreated, ThreadDeleted
from shared.ids import partition_of
from shared.keys import PartitionKeys
from tests.integration.log.driven_log import PARTITIONS, DrivenLog, deliveries, posts, workers
from tests.integration.log.worker_rules import Worker
from tests.support.log_server import AT, QUEUE_MAX, Delivery, token
from tests.support.log_state import Post


class ContinuityRules(DrivenLog):
    @rule(worker=workers, delivery=deliveries, post=posts)
    def close_for_a_while(self, worker: Worker, delivery: Delivery, post: Post) -> None:
        """Nothing that is tried meanwhile leaves a trace."""
        for partition in range(PARTITIONS):
            self.run(self.redis.hdel(PartitionKeys(partition).meta, "verified"))
        for call in self._writes(worker, delivery, post):
            with pytest.raises(LogUnavailable, match="UNVERIFIED"):
                self.run(call)
        self.run(Continuity(self.redis, PARTITIONS).trust())

    def _writes(
        self, worker: Worker, delivery: Delivery, post: Post
    ) -> list[Coroutine[Any, Any, Any]]:
        log, threads, thread_id = self.server.log, self.server.threads, post.thread_id
        command = self.server.command(thread_id, user=post.user)
        event = token(worker.lease, worker.next_seq)
        return [
            threads.create_thread(ThreadCreated(thread_id=thread_id, at=AT, owner=post.user)),
            threads.change_thread(post.user, ThreadDeleted(thread_id=thread_id, at=AT)),
            log.accept_job(command, on_busy="interrupt", queue_max=QUEUE_MAX),
            log.request_cancel(post.job_id, thread_id),
            self.server.begin(delivery),
            log.append_events(Append(worker.lease, [event])),
            log.resume_attempt(worker.lease),
        ]

    @rule(post=posts)
    def open_the_right(self, post: Post) -> None:
        """As restoring does with a job that runs: whose it is must be proved."""
        job = self.model.jobs[post.job_id]
        if job.is_kept and job.status == "running":
            name = PartitionKeys(partition_of(job.job_id)).job(job.job_id)
            self.run(self.redis.hset(name, "owner_token", ""))
            self.model.restore(job.job_id)

    @rule(worker=workers)
    def resume(self, worker: Worker) -> None:
        answer = self.run(self.server.log.resume_attempt(worker.lease))
        expected = self.model.resume(worker.lease.job_id, worker.fence)
        assert (answer.code, answer.last_seq) == expected
