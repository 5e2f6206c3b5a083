"""The log's writing side for jobs: accept, begin, append, renew, cancel. Each call is one script.

                 accept_job            begin_attempt          append_events … done
     client ──▶ queued ──────────────▶ running ─────────────▶ done | failed | cancelled
                   │   command waits      │  attempt = fence       ▲    command acked,
                   └── request_cancel ────┼────────────────────────┘    next job started
                                          └─ lease lost ▶ begin_attempt by another, attempt + 1

A worker's right to append is its ``Lease``: the attempt number and a token drawn when it began.
Whoever begins later makes both of another value, and from then on Redis refuses the earlier one.

Failures
    Reply lost        The call is sent again: a script that finds its work done says so.
    Worker superseded ``FENCED``: it stops, its text belongs to nobody.
    Redis lost a tail ``GAP``: the worker appends again from the seq it is told. If even the
                      beginning of the attempt was lost, ``resume_attempt`` gives it back.
    Redis away        LogUnavailable: nothing is known; the caller may send the same call again.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, cast

from shared.codec import encode
from shared.commands import OnBusy, RunJob
from shared.events import FinalStatus, MessagePosted, Started, ThreadCreated
from shared.ids import partition_of, partition_of_thread
from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.log_protocol import creation_control, refusal
from shared.redis_client import Redis
from shared.redis_scripts import Argument, Call, Script, run, run_many
from shared.times import utc_now

_AT: Final = re.compile(rb'"at":"([^"]+)"')  # stands before everything a user or model wrote
HAND_OVER_IDLE_MS: Final = 86_400_000  # older than any lease: the next look takes the job
HAND_OVERS_MAX: Final = 16  # of one job; later ones use up its attempts

BeginOutcome = Literal["BEGUN", "CANCELLED", "EXHAUSTED", "ENDED", "LOST", "UNKNOWN"]
AppendCode = Literal["OK", "DUPLICATE", "GAP", "FENCED", "UNKNOWN"]


@dataclass(frozen=True, slots=True)
class Accepted:
    job_id: str
    message_id: str
    thread_id: str
    trace_id: str
    first: int | None = None  # position of the message; None for a repeat


class AppendHead(NamedTuple):
    """What every append of a lease begins with."""

    keys: Sequence[str]
    args: Sequence[Argument]


@dataclass(frozen=True)
class Lease:
    """The right to append to a job. ``seq`` is its last event, ``first`` its message's position.

    ``attempt`` is the fence; ``attempts_used`` is what is compared with the limit: a hand-over ends
    an attempt, but does not use it up.
    """

    job_id: str
    thread_id: str
    owner_token: str
    attempt: int
    seq: int
    first: int
    handovers: int = 0
    started: bytes = b""  # the attempt's first event, should Redis lose it

    @property
    def attempts_used(self) -> int:
        return self.attempt - self.handovers

    @property
    def keys(self) -> PartitionKeys:
        return PartitionKeys(partition_of(self.job_id))

    @cached_property
    def append_head(self) -> AppendHead:
        keys, thread = self.keys, self.thread_id
        names = [keys.thread(thread), keys.thread_events(thread), keys.thread_queue(thread)]
        names += [keys.log, keys.commands, keys.job(self.job_id), keys.dead]
        args = [keys.prefix, ORCHESTRATORS, self.job_id, thread, self.attempt, self.owner_token]
        return AppendHead(names, args)


@dataclass(frozen=True, slots=True)
class Begun:
    """What became of a begin. With a lease, the caller must bring the job to its ``done``."""

    outcome: BeginOutcome
    lease: Lease | None = None
    started_at: str | None = None


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    seq: int
    type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Append:
    """Events for one job, seq rising by one; ``final`` is the job's status if the last is done."""

    lease: Lease
    events: Sequence[NumberedEvent]
    final: FinalStatus | None = None
    dead_reason: str = ""


@dataclass(frozen=True, slots=True)
class Appended:
    code: AppendCode
    last_seq: int
    cancel: bool


@dataclass(frozen=True, slots=True)
class Renewed:
    kept: bool
    cancel: bool
    rewound: bool  # Redis has lost the attempt's beginning: it may be resumed


class EventLog:
    """Appends to the log. Stateless: any number may work on the same Redis."""

    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis = redis
        self._partitions = partitions
        self._accept, self._begin = Script("accept_job"), Script("begin_attempt")
        self._append, self._cancel = Script("append_events"), Script("request_cancel")
        self._renew, self._release = Script("renew_lease"), Script("release_lease")
        self._resume = Script("resume_attempt")

    async def accept_job(
        self,
        command: RunJob,
        *,
        on_busy: OnBusy,
        queue_max: int,
        create: ThreadCreated | None = None,
        letter: str | None = None,
        room: bool = True,
    ) -> Accepted:
        """Post the message and queue its job, in a thread that ``create`` makes if it is missing.

        ``letter`` is an entry of the partition's dead letters, which leaves it with this call.
        Without ``room`` for another job of the user only a job that is there already is accepted.
        Raises NotFound (no such thread of this user), ThreadBusy, QueueFull, TooManyJobs,
        LetterGone, ThreadNotLoaded, LogUnavailable.
        """
        keys = self._thread_keys(command.thread_id)
        thread = command.thread_id
        names = [keys.thread(thread), keys.thread_events(thread), keys.thread_queue(thread)]
        names += [keys.log, keys.commands, keys.job(command.job_id)]
        control = {
            **creation_control(
                keys,
                user=command.user,
                thread_id=thread,
                at=command.at,
                create=create,
            ),
            **command.model_dump(include={"job_id", "message_id", "reply_id", "trace_id", "agent"}),
            "on_busy": on_busy,
            "queue_max": queue_max,
            "cancels": keys.cancels,
            "room": room,
        }
        if letter is not None:
            control["letter"] = letter
        args = [json.dumps(control), encode(_posted(command)), encode(command)]
        args.append(encode(create) if create is not None else "")
        code, *facts = await run(self._redis, Call(self._accept, names, args))
        if code != b"ACCEPTED":
            raise refusal(code.decode())
        job_id, message_id, thread_id, trace_id = (fact.decode() for fact in facts[:4])
        first = facts[4] if len(facts) > 4 else None
        return Accepted(job_id, message_id, thread_id, trace_id, first)

    async def begin_attempt(
        self, command: RunJob, *, entry_id: str, consumer: str, attempts_max: int, model: str
    ) -> Begun:
        """Become the owner of a delivered job and append ``started``. Raises LogUnavailable."""
        keys = PartitionKeys(partition_of(command.job_id))
        thread = command.thread_id
        token, now = secrets.token_hex(8), utc_now()
        started = Started(
            job_id=command.job_id, seq=1, attempt=0, at=now, agent=command.agent, model=model
        )
        rest = encode(started).split(b'"attempt":0', 1)[1]
        names = [keys.thread(thread), keys.thread_events(thread), keys.log, keys.commands]
        names.append(keys.job(command.job_id))
        args = [ORCHESTRATORS, consumer, entry_id, token, attempts_max]
        args += [command.job_id, thread, now, rest]
        reply = await run(self._redis, Call(self._begin, names, args))
        outcome = cast("BeginOutcome", reply[0].decode())
        if len(reply) == 1:
            return Begun(outcome)
        _, attempt, seq, first, handovers, started_at = reply
        begun = started.model_copy(update={"seq": seq, "attempt": attempt})
        lease = Lease(command.job_id, thread, token, attempt, seq, first, handovers, encode(begun))
        return Begun(outcome, lease, started_at.decode() or None)

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | Exception]:
        """One round trip for the appends of several jobs, each atomic by itself.

        An append the server refused has its error in its place. Raises LogUnavailable when the
        round trip failed: any of the appends may have happened, and all may be sent again.
        """
        replies = await run_many(self._redis, [self._append_call(append) for append in appends])
        return [
            reply
            if isinstance(reply, Exception)
            else Appended(cast("AppendCode", reply[0].decode()), reply[1], bool(reply[2]))
            for reply in replies
        ]

    async def append_events(self, append: Append) -> Appended:
        """Append for one job: all events or none. Raises LogUnavailable."""
        reply = await run(self._redis, self._append_call(append))
        return Appended(cast("AppendCode", reply[0].decode()), reply[1], bool(reply[2]))

    async def resume_attempt(self, lease: Lease) -> Appended:
        """Take an attempt up again whose beginning Redis has lost.

        GAP: it is the caller's, append again from ``last_seq + 1``. FENCED: somebody else's, or
        over. UNKNOWN: Redis knows no such job. Raises LogUnavailable.
        """
        keys, thread = lease.keys, lease.thread_id
        names = [keys.thread(thread), keys.thread_events(thread), keys.log, keys.commands]
        names.append(keys.job(lease.job_id))
        args = [lease.job_id, thread, lease.attempt, lease.owner_token, lease.seq, lease.started]
        reply = await run(self._redis, Call(self._resume, names, args))
        code = "GAP" if reply[0] == b"RESUMED" else reply[0].decode()
        return Appended(cast("AppendCode", code), reply[1], cancel=False)

    def renew_call(self, lease: Lease, consumer: str) -> Call:
        """The call that keeps a lease, for a client of the caller's (see the heartbeat)."""
        names = [lease.keys.commands, lease.keys.job(lease.job_id)]
        args = [ORCHESTRATORS, consumer, lease.attempt, lease.owner_token]
        return Call(self._renew, names, args)

    @staticmethod
    def renewed(reply: Any) -> Renewed:
        return Renewed(reply[0] == b"KEPT", bool(reply[1]), reply[0] == b"REWOUND")

    async def release_lease(self, lease: Lease, consumer: str) -> bool:
        """Hand a job over at once; its next attempt is free, HAND_OVERS_MAX times.

        False when it was no longer the caller's. Raises LogUnavailable.
        """
        names = [lease.keys.commands, lease.keys.job(lease.job_id)]
        args = [ORCHESTRATORS, consumer, lease.attempt, lease.owner_token]
        args += [HAND_OVER_IDLE_MS, HAND_OVERS_MAX]
        return bool(await run(self._redis, Call(self._release, names, args)))

    async def request_cancel(self, job_id: str, thread_id: str) -> str | None:
        """Ask a job to stop. Its status now, or None when Redis has let the job go (it is over)."""
        keys = PartitionKeys(partition_of(job_id))
        names = [keys.thread(thread_id), keys.thread_events(thread_id)]
        names += [keys.thread_queue(thread_id), keys.log, keys.commands, keys.job(job_id)]
        args = [keys.prefix, ORCHESTRATORS, job_id, thread_id, utc_now(), keys.cancels]
        status = await run(self._redis, Call(self._cancel, names, args))
        return status.decode() or None

    def _append_call(self, append: Append) -> Call:
        head = append.lease.append_head
        args: list[Argument] = [*head.args, _time_of(append.events) if append.final else ""]
        args += (append.final or "", append.dead_reason)
        for event in append.events:
            args += (event.seq, event.type, event.data)
        return Call(self._append, head.keys, args)

    def _thread_keys(self, thread_id: str) -> PartitionKeys:
        return PartitionKeys(partition_of_thread(thread_id, self._partitions))


def _posted(command: RunJob) -> MessagePosted:
    return MessagePosted.model_validate(command.model_dump(exclude={"type", "v"}))


def _time_of(events: Sequence[NumberedEvent]) -> str:
    """The last event's own ``at``: the hashes must say the same time as the archive will."""
    found = _AT.search(events[-1].data) if events else None
    return found[1].decode() if found else utc_now()
