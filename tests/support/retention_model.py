"""The persister's side of the model: an archive of rows, what it reports, and what may then leave.

The archive takes batches in any order and more than once, as Postgres does. A thread may be let go
when every event it has is archived and none of its jobs is alive; the log may be cut before the
oldest entry that is not acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.ids import partition_of
from tests.support.log_model import LogModel
from tests.support.log_state import ModelEvent, ModelPartition

Batch = Sequence[tuple[int, str, ModelEvent]]  # index in the partition's log, thread id, event


@dataclass(slots=True)
class RetentionModel:
    log: LogModel
    events_kept: int  # archived events that stay in a thread's stream
    rows: dict[str, dict[int, ModelEvent]] = field(default_factory=dict[str, dict[int, ModelEvent]])

    def read(self, partition: int, count: int) -> Batch:
        """The next entries nobody has had, now pending."""
        stream = self.log.partitions[partition]
        indices = range(stream.delivered, min(stream.delivered + count, len(stream.log)))
        stream.delivered += len(indices)
        stream.pending.update(indices)
        return self._entries(stream, indices)

    def pending(self, partition: int) -> Batch:
        """What a persister gets that takes over from all others."""
        stream = self.log.partitions[partition]
        return self._entries(stream, sorted(stream.pending))

    @staticmethod
    def _entries(stream: ModelPartition, indices: Iterable[int]) -> Batch:
        return [(index, *stream.log[index]) for index in indices]

    def report_processing(self, batch: Batch) -> dict[str, int]:
        """The positions to report, which the threads then have."""
        positions: dict[str, int] = {}
        for _, thread_id, event in batch:
            positions[thread_id] = max(event.position, positions.get(thread_id, 0))
        for thread_id, position in positions.items():
            thread = self.log.threads[thread_id]
            if thread.is_kept:
                thread.processing = max(thread.processing, position)
                if thread.state != "DELETING":
                    thread.advance("PROCESSING")
        return positions

    def commit(self, batch: Batch) -> None:
        for _, thread_id, event in batch:
            self.rows.setdefault(thread_id, {})[event.position] = event

    def whole(self, batch: Batch) -> tuple[dict[str, int], list[str]]:
        """What may be reported after a commit: positions without hole, and jobs archived whole."""
        thread_ids = dict.fromkeys(thread_id for _, thread_id, _ in batch)
        positions = {thread_id: self._prefix(self.rows[thread_id]) for thread_id in thread_ids}
        jobs = dict.fromkeys(event.stream for *_, event in batch if event.stream in self.log.jobs)
        return (
            {thread_id: position for thread_id, position in positions.items() if position},
            [job_id for job_id in jobs if self._is_whole(job_id)],
        )

    @staticmethod
    def _prefix(rows: Mapping[int, ModelEvent]) -> int:
        position = 0
        while position + 1 in rows:
            position += 1
        return position

    def _is_whole(self, job_id: str) -> bool:
        rows = self.rows[self.log.jobs[job_id].thread_id].values()
        events = [event for event in rows if event.stream == job_id]
        last = [event.seq for event in events if event.type == "done"]
        return last == [len(events)]

    def report_archived(self, positions: Mapping[str, int], finished_jobs: Sequence[str]) -> None:
        for thread_id, position in positions.items():
            if self.log.threads[thread_id].is_kept:
                self._archived(thread_id, position)
        for job_id in finished_jobs:
            self.log.jobs[job_id].expires = self.log.jobs[job_id].is_kept

    def _archived(self, thread_id: str, position: int) -> None:
        thread = self.log.threads[thread_id]
        thread.archived = max(thread.archived, position)
        is_deleting = thread.state == "DELETING"
        if position >= thread.changed:
            self.log.dirty -= {(user, thread_id) for user in thread.listed_by}
            thread.left = []
            thread.advance("DELETED" if is_deleting else "ACTIVE")
        elif not is_deleting:
            thread.advance("ACTIVE")
        cut = position - self.events_kept
        if thread.active is not None:
            cut = min(cut, self.log.jobs[thread.active].first)
        elif position >= thread.position:
            thread.expires = True
        thread.kept_after = max(thread.kept_after, cut - 1)

    def acknowledge(self, partition: int, batch: Batch) -> None:
        self.log.partitions[partition].pending.difference_update(index for index, *_ in batch)

    def trim(self, partition: int) -> int:
        """The number of entries that leave. The last one delivered always stays."""
        stream = self.log.partitions[partition]
        keep_from = min(stream.pending, default=max(stream.delivered - 1, 0))
        removed = max(keep_from - stream.trimmed, 0)
        stream.trimmed += removed
        return removed

    def expire_thread(self, thread_id: str) -> None:
        thread = self.log.threads[thread_id]
        thread.is_kept = thread.expires = False
        thread.kept_after = thread.position

    def expire_job(self, job_id: str) -> None:
        self.log.jobs[job_id].is_kept = self.log.jobs[job_id].expires = False

    def load(self, thread_id: str) -> None:
        """The thread as the archive knows it; nothing happens when it is there."""
        thread = self.log.threads[thread_id]
        if thread.is_kept:
            return
        thread.is_kept = thread.expires = True
        thread.state = "ACTIVE"
        thread.archived = thread.processing = thread.changed = thread.position

    def unarchived(self, partition: int) -> Batch:
        """Entries that are not in the archive: none of them may leave the log."""
        stream = self.log.partitions[partition]
        return [
            entry
            for entry in self._entries(stream, range(len(stream.log)))
            if entry[2].position not in self.rows.get(entry[1], {})
        ]

    def finished(self, partition: int) -> list[str]:
        return [
            job_id
            for job_id, job in self.log.jobs.items()
            if partition_of(job_id) == partition and job.is_over
        ]
