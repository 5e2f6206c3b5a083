"""What the model of the log is made of: threads, jobs, events and the streams of a partition."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.commands import OnBusy
from shared.states import FINAL_STATUSES, THREAD_STATES, may_advance


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """An event and what its JSON must say; `facts` leaves out what the log does not decide."""

    position: int
    stream: str
    seq: int
    type: str
    facts: dict[str, object]

    @property
    def place(self) -> tuple[int, str, int, str]:
        return (self.position, self.stream, self.seq, self.type)


@dataclass(slots=True)
class ModelJob:
    job_id: str
    thread_id: str
    first: int
    status: str = "queued"
    attempt: int = 0
    seq: int = 0
    handovers: int = 0  # attempts that ended in one, and are not counted
    cancel: bool = False
    token: str | None = None
    holder: str | None = None  # the consumer its command is pending for
    has_command: bool = False
    expires: bool = False
    is_kept: bool = True  # False once Redis has let it go

    @property
    def is_over(self) -> bool:
        return self.status in FINAL_STATUSES


@dataclass(slots=True)
class ModelThread:
    thread_id: str
    owner: str
    state: str = "PENDING"
    title: str | None = None
    participants: list[str] = field(default_factory=list[str])
    reads: dict[str, int] = field(default_factory=dict[str, int])
    left: list[str] = field(default_factory=list[str])  # since the last change was archived
    position: int = 0
    seq: int = 0
    changed: int = 0
    archived: int = 0
    processing: int = 0
    active: str | None = None
    queue: list[str] = field(default_factory=list[str])
    events: list[ModelEvent] = field(default_factory=list[ModelEvent])
    kept_after: int = 0  # Redis holds the events behind this position
    expires: bool = False
    is_kept: bool = True

    @property
    def is_gone(self) -> bool:
        return self.state in ("DELETING", "DELETED")

    @property
    def listed_by(self) -> set[str]:
        """In whose lists it stands, or stood."""
        return {self.owner, *self.participants, *self.left}

    def has(self, user: str) -> bool:
        return user == self.owner or user in self.participants

    def advance(self, state: str) -> None:
        if may_advance(THREAD_STATES, self.state, state):
            self.state = state


@dataclass(slots=True)
class ModelPartition:
    """The streams of a partition. `log` holds every event ever; the first `trimmed` have left."""

    commands: list[str] = field(default_factory=list[str])
    dead: list[str] = field(default_factory=list[str])
    log: list[tuple[str, ModelEvent]] = field(default_factory=list[tuple[str, ModelEvent]])
    trimmed: int = 0
    delivered: int = 0
    pending: set[int] = field(default_factory=set[int])


@dataclass(frozen=True, slots=True)
class Post:
    """What a client sends with a message."""

    job_id: str
    thread_id: str
    user: str
    on_busy: OnBusy = "enqueue"
    create: bool = False
