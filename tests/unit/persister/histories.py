"""Generated histories of threads, as the log could hold them, and ways to deliver them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from shared.codec import Record, encode
from shared.events import (
    Attachment,
    Done,
    FileAdded,
    FileDeleted,
    FilePassages,
    FinalStatus,
    MessageDeleted,
    MessagePosted,
    ParticipantJoined,
    ParticipantLeft,
    Started,
    Summarized,
    ThreadCreated,
    ThreadDeleted,
    ThreadRead,
    ThreadUpdated,
    Token,
    Usage,
)

Placed = tuple[str, Record]  # thread id, event

ATTACHMENT = Attachment(file_id="file_0", name="a", type="text/plain", size=1)
texts = st.text(st.characters(codec="utf-8"), max_size=6)
metadatas = st.dictionaries(texts, texts | st.integers() | st.none(), max_size=2)


@dataclass(slots=True)
class History:
    """A thread as it is being told."""

    thread_id: str
    records: list[Record] = field(default_factory=list[Record])
    thread_seq: int = 0

    @property
    def now(self) -> str:
        """Times rise with positions, a second each."""
        minute, second = divmod(len(self.records), 60)
        return f"2026-01-01T00:{minute:02d}:{second:02d}.000Z"

    def tell(self, event: Any) -> None:
        """An event of the thread."""
        self.thread_seq += 1
        self._append(self.thread_id, self.thread_seq, event)

    def tell_job(self, event: Any) -> None:
        self._append(event.job_id, event.seq, event)

    def _append(self, stream: str, seq: int, event: Any) -> None:
        position = len(self.records) + 1
        self.records.append(Record(position, stream, seq, event.type, encode(event)))


@st.composite
def thread_histories(draw: st.DrawFn, number: int) -> History:
    """One thread: created, then questions, answers and changes, perhaps deleted."""
    history = History(f"thr_{number}")
    created = {"owner": f"user {number}", "title": draw(st.none() | texts)}
    created["metadata"] = draw(metadatas)
    history.tell(ThreadCreated(thread_id=history.thread_id, at=history.now, **created))
    for job in range(draw(st.integers(0, 3))):
        _job(draw, history, f"{number}_{job}")
        if draw(st.booleans()):
            changes = {"title": draw(st.none() | texts), "metadata": draw(st.none() | metadatas)}
            changes["status"] = draw(st.sampled_from([None, "active", "archived"]))
            update = ThreadUpdated(thread_id=history.thread_id, at=history.now, **changes)
            history.tell(update)
        if draw(st.booleans()):
            name = draw(st.sampled_from(["msg", "reply"]))
            deleted = MessageDeleted(
                thread_id=history.thread_id,
                at=history.now,
                message_id=f"{name}_{number}_{job}",
                job_id=f"job_{number}_{job}",
                user="somebody",
            )
            history.tell(deleted)
        for guest in draw(st.lists(st.sampled_from(["eve", "zoë"]), max_size=2)):
            change = draw(st.sampled_from([ParticipantJoined, ParticipantLeft]))
            history.tell(change(thread_id=history.thread_id, at=history.now, user=guest))
            upto = draw(st.integers(1, len(history.records)))
            read = {"user": guest, "message_id": f"msg_{number}_{job}", "upto": upto}
            history.tell(ThreadRead(thread_id=history.thread_id, at=history.now, **read))
    for file in range(draw(st.integers(0, 2))):
        _file(draw, history, f"file_{number}_{file}")
    if draw(st.booleans()):
        history.tell(ThreadDeleted(thread_id=history.thread_id, at=history.now))
    return history


def _file(draw: st.DrawFn, history: History, file_id: str) -> None:
    """A file, its text, and perhaps its end."""
    of_file: dict[str, Any] = {"thread_id": history.thread_id, "file_id": file_id}
    facts: dict[str, Any] = {
        "user": "somebody",
        "media_type": "text/plain",
        "size": 1,
        "sha256": "0" * 64,
    }
    history.tell(FileAdded(**of_file, at=history.now, name=draw(texts), **facts))
    for first in range(1, draw(st.integers(1, 3))):
        history.tell(FilePassages(**of_file, at=history.now, first=first, texts=(draw(texts),)))
    if draw(st.booleans()):
        history.tell(FileDeleted(**of_file, at=history.now, user="somebody"))


def _job(draw: st.DrawFn, history: History, name: str) -> None:
    """A question; then nothing yet, an answer in some attempts, or the end before any."""
    job_id, reply_id, seq = f"job_{name}", f"reply_{name}", 0
    posted = MessagePosted(
        thread_id=history.thread_id,
        at=history.now,
        message_id=f"msg_{name}",
        job_id=job_id,
        reply_id=reply_id,
        user="somebody",
        content=draw(texts),
        agent=draw(st.sampled_from(["default", "poet"])),
        metadata=draw(metadatas),
        trace_id="0" * 32,
        attachments=draw(st.just(()) | st.just((ATTACHMENT,))),
    )
    history.tell(posted)
    attempts, text = draw(st.integers(0, 2)), ""
    for attempt in range(1, attempts + 1):
        common, text = {"job_id": job_id, "attempt": attempt}, ""
        seq += 1
        started = Started(seq=seq, at=history.now, agent=posted.agent, model="m", **common)
        history.tell_job(started)
        if draw(st.booleans()):
            seq, position = seq + 1, len(history.records)
            summary = {"content": draw(texts), "upto": position, "as_of": position}
            history.tell_job(Summarized(seq=seq, at=history.now, **summary, **common))
        for content in draw(st.lists(texts, max_size=3)):
            seq, text = seq + 1, text + content
            history.tell_job(Token(seq=seq, at=history.now, content=content, deltas=1, **common))
    if draw(st.booleans()):
        ends: tuple[FinalStatus, ...] = ("cancelled", "failed", "done")
        status = draw(st.sampled_from(ends if attempts else ends[:1]))
        history.tell_job(
            Done(
                job_id=job_id,
                seq=seq + 1,
                attempt=attempts,
                at=history.now,
                status=status,
                content=text,
                message_id=reply_id,
                usage=draw(st.none() | st.just(Usage(total_tokens=seq))),
                latency_ms=1,
            )
        )


@st.composite
def histories(draw: st.DrawFn) -> list[History]:
    return [draw(thread_histories(number)) for number in range(draw(st.integers(1, 3)))]


@st.composite
def deliveries(draw: st.DrawFn, told: Sequence[History]) -> list[list[Placed]]:
    """Every event at least once, some again, in any order, cut into batches."""
    events = [(history.thread_id, record) for history in told for record in history.records]
    again = draw(st.lists(st.sampled_from(events), max_size=len(events)))
    shuffled = draw(st.permutations(events + again))
    cuts = sorted(draw(st.sets(st.integers(1, len(shuffled)), max_size=6)))
    edges = zip([0, *cuts], [*cuts, len(shuffled)], strict=True)
    return [list(shuffled[start:end]) for start, end in edges if start < end]
