"""The model of the log, and what change_thread does to it."""

from __future__ import annotations

from tests.support.log_model import LogModel
from tests.support.log_state import ModelThread


class ChangingModel(LogModel):
    def rename(self, thread_id: str, user: str, title: str) -> str:
        thread = self._kept(thread_id)
        if refusal := self._change_refusal(thread, user):
            return refusal
        assert thread is not None
        thread.title = title
        self._thread_event(thread, "thread.updated", title=title)
        thread.expires = False
        return "CHANGED"

    def delete(self, thread_id: str, user: str) -> str:
        thread = self._kept(thread_id)
        if refusal := self._change_refusal(thread, user):
            return refusal
        assert thread is not None
        thread.state = "DELETING"
        for job_id in list(thread.queue):
            self._end_unbegun(self.jobs[job_id])
        if thread.active:
            self._flag(self.jobs[thread.active])
        self._thread_event(thread, "thread.deleted")
        thread.expires = False
        return "CHANGED"

    def invite(self, thread_id: str, user: str, guest: str) -> str:
        thread = self._kept(thread_id)
        if refusal := self._change_refusal(thread, user):
            return refusal
        assert thread is not None
        if thread.has(guest):
            return "CHANGED"
        if len(thread.participants) >= self.participants_max:
            return "CROWDED"
        thread.participants.append(guest)
        self._thread_event(thread, "participant.joined", user=guest)
        thread.reads[guest] = thread.position
        thread.expires = False
        return "CHANGED"

    def part(self, thread_id: str, user: str, guest: str) -> str:
        thread = self._kept(thread_id)
        if refusal := self._change_refusal(thread, user, free=user == guest):
            return refusal
        assert thread is not None
        if guest == thread.owner:
            return "OWNER_STAYS"
        if guest in thread.participants:
            thread.participants.remove(guest)
            thread.left.append(guest)
            del thread.reads[guest]
            self._thread_event(thread, "participant.left", user=guest)
            thread.expires = False
        return "CHANGED"

    def read(self, thread_id: str, user: str, upto: int) -> str:
        thread = self._kept(thread_id)
        if refusal := self._change_refusal(thread, user, free=True):
            return refusal
        assert thread is not None
        if upto > thread.reads.get(user, 0):
            thread.reads[user] = upto
            self._thread_event(thread, "thread.read", user=user, upto=upto)
            thread.expires = False
        return "CHANGED"

    def delete_message(self, thread_id: str, user: str, job_id: str) -> str:
        thread = self._kept(thread_id)
        if refusal := self._change_refusal(thread, user, free=True):
            return refusal
        assert thread is not None
        job = self.jobs[job_id]
        if job.is_kept and job.status == "queued":
            self._end_unbegun(job)
        elif job.is_kept and job.status == "running":
            self._flag(job)
        self._thread_event(thread, "message.deleted", job_id=job_id, user=user)
        thread.expires = False
        return "CHANGED"

    @staticmethod
    def _change_refusal(thread: ModelThread | None, user: str, *, free: bool = False) -> str:
        if thread is None:
            return "NO_THREAD"
        if not thread.has(user) or thread.is_gone:
            return "NO_ACCESS"
        return "" if free or thread.owner == user else "NOT_OWNER"
