"""The log's writing side for threads: create, change, load. Each call is one script.

Redis holds a thread while it is in use. An archived, idle one is let go, and loaded again from
Postgres by whoever needs it next, so every write finds its thread here.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shared.codec import encode
from shared.errors import NotFound
from shared.events import (
    FileAdded,
    FileDeleted,
    FilePassages,
    MessageDeleted,
    ParticipantJoined,
    ParticipantLeft,
    ThreadCreated,
    ThreadDeleted,
    ThreadRead,
    ThreadStatus,
    ThreadUpdated,
)
from shared.ids import partition_of_thread
from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.log_protocol import creation_control, refusal
from shared.redis_client import Redis
from shared.redis_scripts import Call, Script, run
from shared.states import ThreadState

READ: Final = "read:"  # and a user: the field of the hash that tells how far they have read
PARTICIPANTS_MAX: Final = 32  # of a thread, beside its owner
REQUEST_ID_HEX: Final = 16  # of a call's id, by which the script knows one that is sent again

Change = (
    ThreadUpdated
    | ThreadDeleted
    | ParticipantJoined
    | ParticipantLeft
    | ThreadRead
    | MessageDeleted
    | FileAdded
    | FileDeleted
)


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread; the same shape from Redis and from Postgres."""

    thread_id: str
    owner: str
    state: ThreadState
    status: ThreadStatus
    title: str | None
    agent: str | None
    created_at: str
    updated_at: str
    position: int  # of its last event
    seq: int  # of its last thread event
    archived: int  # every event up to this position is in Postgres
    processing: int  # every event up to this position is there or in a persister's batch
    active_job_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    participants: tuple[str, ...] = ()  # beside the owner, in the order in which they came
    reads: Mapping[str, int] = field(default_factory=dict[str, int])  # how far each has read

    def has(self, user: str) -> bool:
        """Whether a user may read it and write in it."""
        return user == self.owner or user in self.participants

    @property
    def is_gone(self) -> bool:
        return self.state in ("DELETING", "DELETED")


class ThreadLog:
    """Appends thread events. Stateless: any number may work on the same Redis."""

    def __init__(self, redis: Redis, partitions: int, *, idle_ttl_seconds: int) -> None:
        self._redis = redis
        self._partitions = partitions
        self._idle_ttl_seconds = idle_ttl_seconds
        self._create, self._change = Script("create_thread"), Script("change_thread")
        self._load = Script("load_thread")

    async def create_thread(self, event: ThreadCreated) -> str:
        """Create the thread the event describes; the time it was created (again: the first time).

        Raises LogUnavailable.
        """
        keys, thread = self._keys(event.thread_id), event.thread_id
        names = [keys.thread(thread), keys.thread_events(thread), keys.log]
        control = creation_control(
            keys,
            user=event.owner,
            thread_id=thread,
            at=event.at,
            create=event,
        )
        call = Call(self._create, names, [json.dumps(control), encode(event)])
        code, *facts = await run(self._redis, call)
        if code != b"CREATED":
            raise refusal(code.decode())
        return facts[0].decode()

    async def name_thread(self, owner: str, event: ThreadUpdated) -> None:
        """Give a thread the title of the event, unless it has one. Raises as change_thread."""
        await self.change_thread(owner, event, unless_named=True)

    async def change_thread(
        self,
        user: str,
        event: Change,
        *,
        unless_named: bool = False,
        behind: Sequence[FilePassages] = (),
    ) -> None:
        """Rename, archive, re-label, delete; let a user in or out; note what one has read.

        A deletion cancels the jobs it is about. All is the owner's right, but to read, to leave, to
        add a file, and to delete a message or file, which the caller must have found to be theirs.
        What is so already is no change. ``behind`` are events that come right behind it.
        Raises NotFound, NotTheOwner, OwnerStays, ThreadCrowded, ThreadNotLoaded, LogUnavailable.
        """
        keys, thread = self._keys(event.thread_id), event.thread_id
        names = [keys.thread(thread), keys.thread_events(thread), keys.thread_queue(thread)]
        names += [keys.log, keys.commands]
        control: dict[str, Any] = {
            "prefix": keys.prefix,
            "group": ORCHESTRATORS,
            "user": user,
            "thread_id": thread,
            "at": event.at,
            "cancels": keys.cancels,
            "request_id": _request_id(event),
            "type": event.type,
            "set": _fields(event),
            "unless_named": unless_named,
        }
        if isinstance(event, ParticipantJoined | ParticipantLeft):
            control |= {"member": event.user, "participants_max": PARTICIPANTS_MAX}
        if isinstance(event, ThreadRead):
            control["upto"] = event.upto
        if isinstance(event, MessageDeleted):
            control["job_id"] = event.job_id
        if behind:
            control["behind"] = behind[0].type
        args = [json.dumps(control), encode(event), *(encode(each) for each in behind)]
        reply = await run(self._redis, Call(self._change, names, args))
        if reply[0] != b"CHANGED":
            raise refusal(reply[0].decode())

    async def load(self, thread: Thread) -> None:
        """Bring an archived thread back. Raises NotFound if it is deleted, LogUnavailable."""
        if thread.is_gone:
            raise NotFound()
        pairs = [part for pair in archived_fields(thread).items() for part in pair]
        name = self._keys(thread.thread_id).thread(thread.thread_id)
        await run(self._redis, Call(self._load, [name], [self._idle_ttl_seconds, *pairs]))

    def _keys(self, thread_id: str) -> PartitionKeys:
        return PartitionKeys(partition_of_thread(thread_id, self._partitions))


def archived_fields(thread: Thread) -> dict[str, str | int]:
    """The fields of the hash of a thread that is archived to its last position."""
    return {
        "owner": thread.owner,
        "participants": "\n".join(thread.participants),
        "state": thread.state,
        "status": thread.status,
        "title": thread.title or "",
        "agent": thread.agent or "",
        "metadata": json.dumps(thread.metadata),
        "created_at": thread.created_at,
        "updated_at": thread.updated_at,
        "position": thread.position,
        "seq": thread.seq,
        "archived": thread.position,
        "processing": thread.position,
        "changed": thread.position,
        **{f"{READ}{user}": position for user, position in thread.reads.items()},
    }


def _request_id(event: Change) -> str:
    """Of a file its own: whoever carries out the same plan makes the same call."""
    if isinstance(event, FileAdded):
        return hashlib.sha256(event.file_id.encode()).hexdigest()[:REQUEST_ID_HEX]
    return secrets.token_hex(REQUEST_ID_HEX // 2)


def split_users(lines: str | None) -> tuple[str, ...]:
    """The users that stand in a text, a line each."""
    return tuple(lines.split("\n")) if lines else ()


def _fields(event: Change) -> dict[str, str]:
    """The hash fields whose value an event says."""
    if not isinstance(event, ThreadUpdated):
        return {}
    fields = event.model_dump(include={"title", "status"}, exclude_none=True)
    if event.metadata is not None:
        fields["metadata"] = json.dumps(event.metadata)
    return fields
