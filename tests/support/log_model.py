"""The log as plain data: what the scripts promise, without Redis, clocks or bytes.

Every method is one script and gives that script's answer; `tests.support.log_view` tells what the
server must hold afterwards. What the persister reports stands in `tests.support.retention_model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.ids import partition_of, partition_of_thread
from tests.support.log_state import ModelEvent, ModelJob, ModelPartition, ModelThread, Post


@dataclass(slots=True)
class LogModel:
    partition_count: int
    queue_max: int
    attempts_max: int
    hand_overs_max: int
    participants_max: int
    threads: dict[str, ModelThread] = field(default_factory=dict[str, ModelThread])
    jobs: dict[str, ModelJob] = field(default_factory=dict[str, ModelJob])
    dirty: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    woken: set[str] = field(default_factory=set[str])  # jobs whose worker was told to cancel
    partitions: list[ModelPartition] = field(init=False)

    def __post_init__(self) -> None:
        self.partitions = [ModelPartition() for _ in range(self.partition_count)]

    def create(self, thread_id: str, owner: str) -> None:
        if thread_id not in self.threads:
            self._create(thread_id, owner)

    def accept(self, post: Post) -> tuple[str, str]:
        """The code, and the job that answers the request."""
        known = self.jobs.get(post.job_id)
        if known is not None and known.is_kept:
            return "ACCEPTED", post.job_id
        if refusal := self._refusal(post):
            return refusal, ""
        self._post(post)
        return "ACCEPTED", post.job_id

    def _refusal(self, post: Post) -> str:
        thread = self._kept(post.thread_id)
        if thread is None:
            return "" if post.create else "NO_THREAD"
        if not thread.has(post.user) or thread.is_gone:
            return "NO_ACCESS"
        if thread.active and post.on_busy == "reject":
            return "BUSY"
        return "FULL" if thread.active and len(thread.queue) >= self.queue_max else ""

    def _post(self, post: Post) -> None:
        thread = self._kept(post.thread_id) or self._create(post.thread_id, post.user)
        self._thread_event(thread, "message.posted", job_id=post.job_id)
        thread.expires = False
        job = self.jobs[post.job_id] = ModelJob(post.job_id, post.thread_id, thread.position)
        if thread.active is None:
            self._start(thread, job)
        elif post.on_busy == "interrupt":
            thread.queue.insert(0, job.job_id)
            self._flag(self.jobs[thread.active])
        else:
            thread.queue.append(job.job_id)

    def deliver(self, partition: int, consumer: str) -> str | None:
        """The oldest command nobody has had yet."""
        for job_id in self.partitions[partition].commands:
            if self.jobs[job_id].holder is None:
                self.jobs[job_id].holder = consumer
                return job_id
        return None

    def claim(self, job_id: str, consumer: str) -> bool:
        """Whether there was something to claim: XCLAIM of a command whose lease has run out."""
        job = self.jobs[job_id]
        if not job.has_command or job.holder is None:
            return False
        job.holder = consumer
        return True

    def begin(self, job_id: str, consumer: str, token: str) -> str:
        job = self.jobs[job_id]
        if not job.is_kept:
            return "UNKNOWN"
        if job.is_over:
            return "ENDED"
        if job.holder != consumer:
            return "LOST"
        job.token = token
        if job.cancel:
            return "CANCELLED"
        if job.attempt - job.handovers >= self.attempts_max:
            return "EXHAUSTED"
        job.status, job.attempt, job.seq = "running", job.attempt + 1, job.seq + 1
        self._event(self._of(job), job_id, job.seq, "started", attempt=job.attempt)
        return "BEGUN"

    def append(
        self,
        job_id: str,
        fence: tuple[int, str],
        events: Sequence[tuple[int, str, dict[str, object]]],
        final: str | None = None,
        dead_reason: str = "",
    ) -> tuple[str, int, bool]:
        """The code, the job's last seq, and whether it is to be cancelled."""
        job = self.jobs[job_id]
        code = self._append_code(job, fence, events[0][0], events[-1][0])
        answer = (code, job.seq, job.cancel)
        if code != "OK":
            return answer if job.is_kept else ("UNKNOWN", 0, False)
        for seq, kind, facts in events:
            if seq > job.seq:
                job.seq = seq
                self._event(self._of(job), job_id, seq, kind, **facts)
        if final:
            if dead_reason:
                self.partitions[partition_of(job_id)].dead.append(job_id)
            self._finish(job, final)
        return "OK", job.seq, answer[2]

    @staticmethod
    def _append_code(job: ModelJob, fence: tuple[int, str], first: int, last: int) -> str:
        if not job.is_kept:
            return "UNKNOWN"
        if fence != (job.attempt, job.token):
            return "FENCED"
        if last <= job.seq:
            return "DUPLICATE"
        if job.is_over:
            return "FENCED"
        return "GAP" if first > job.seq + 1 else "OK"

    def renew(self, job_id: str, consumer: str, fence: tuple[int, str]) -> tuple[bool, bool, bool]:
        """Whether the lease is kept, the job to be cancelled, the attempt perhaps to be resumed."""
        job = self.jobs[job_id]
        if not self._runs_for(job, fence):
            return False, False, not job.is_kept or (job.attempt, "") == (fence[0], job.token)
        job.holder = consumer
        return True, job.cancel, False

    def restore(self, job_id: str) -> None:
        """What a job is whose attempt Redis had lost and the archive knew: its right is open."""
        self.jobs[job_id].token = ""

    def resume(self, job_id: str, fence: tuple[int, str]) -> tuple[str, int]:
        job = self.jobs[job_id]
        if not job.is_kept:
            return "UNKNOWN", 0
        if job.is_over or job.attempt != fence[0] or job.token not in ("", fence[1]):
            return "FENCED", job.seq
        if job.token == "":
            job.token, job.status = fence[1], "running"
        return "GAP", job.seq

    def release(self, job_id: str, consumer: str, fence: tuple[int, str]) -> bool:
        job = self.jobs[job_id]
        if not self._runs_for(job, fence):
            return False
        job.token, job.holder = None, consumer
        job.handovers = min(job.handovers + 1, self.hand_overs_max)
        return True

    @staticmethod
    def _runs_for(job: ModelJob, fence: tuple[int, str]) -> bool:
        return job.is_kept and job.status == "running" and fence == (job.attempt, job.token)

    def cancel(self, job_id: str) -> str | None:
        job = self.jobs[job_id]
        if not job.is_kept:
            return None
        if job.status == "running":
            self._flag(job)
        if job.status == "queued":
            self._end_unbegun(job)
        return job.status

    def _create(self, thread_id: str, owner: str) -> ModelThread:
        thread = self.threads[thread_id] = ModelThread(thread_id, owner)
        self._thread_event(thread, "thread.created", owner=owner)
        return thread

    def _start(self, thread: ModelThread, job: ModelJob) -> None:
        thread.active, job.has_command = job.job_id, True
        self.partitions[partition_of(job.job_id)].commands.append(job.job_id)

    def _flag(self, job: ModelJob) -> None:
        job.cancel = True
        self.woken.add(job.job_id)

    def _end_unbegun(self, job: ModelJob) -> None:
        job.seq += 1
        facts: dict[str, object] = {"attempt": 0, "status": "cancelled", "content": ""}
        self._event(self._of(job), job.job_id, job.seq, "done", **facts)
        self._finish(job, "cancelled")

    def _finish(self, job: ModelJob, status: str) -> None:
        thread = self._of(job)
        self._mark_changed(thread)
        job.status, job.cancel = status, False
        if job.has_command:
            job.has_command, job.holder = False, None
            self.partitions[partition_of(job.job_id)].commands.remove(job.job_id)
        if thread.active != job.job_id:
            thread.queue.remove(job.job_id)
            return
        thread.active = None
        if thread.queue:
            self._start(thread, self.jobs[thread.queue.pop(0)])

    def _thread_event(self, thread: ModelThread, kind: str, **facts: object) -> None:
        thread.seq += 1
        self._event(thread, thread.thread_id, thread.seq, kind, **facts)
        self._mark_changed(thread)

    def _event(
        self, thread: ModelThread, stream: str, seq: int, kind: str, **facts: object
    ) -> None:
        thread.position += 1
        event = ModelEvent(thread.position, stream, seq, kind, facts)
        thread.events.append(event)
        self.partition_of(thread.thread_id).log.append((thread.thread_id, event))

    def _mark_changed(self, thread: ModelThread) -> None:
        thread.changed = thread.position
        self.dirty |= {(user, thread.thread_id) for user in thread.listed_by}

    def partition_of(self, thread_id: str) -> ModelPartition:
        return self.partitions[self._place(thread_id)]

    def _place(self, thread_id: str) -> int:
        return partition_of_thread(thread_id, self.partition_count)

    def _of(self, job: ModelJob) -> ModelThread:
        return self.threads[job.thread_id]

    def _kept(self, thread_id: str) -> ModelThread | None:
        thread = self.threads.get(thread_id)
        return thread if thread is not None and thread.is_kept else None
