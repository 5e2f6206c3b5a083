"""The real log and its model, side by side: what every step of the state machine stands on.

Leases do not run out by the clock here: a claim with an idle time of 0 is a lease that has expired,
and deleting the keys the model says may be gone is an idle time that has passed. In every second
example or so each script is sent twice, as if its first reply had been lost.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant

from shared import event_log, retention, thread_log
from shared.codec import Record
from shared.ids import partition_of, partition_of_thread
from tests.support.event_history import check_thread_history
from tests.support.log_changes import ChangingModel
from tests.support.log_server import (
    ATTEMPTS_MAX,
    QUEUE_MAX,
    ChannelEar,
    LogServer,
    RepeatingRedis,
)
from tests.support.log_state import ModelThread
from tests.support.log_view import Subjects, expected, observed
from tests.support.retention_model import RetentionModel

PARTITIONS = 2
THREADS = (f"thr_{4:032x}", f"thr_{5:032x}", f"thr_{8:032x}")  # in partitions 0, 0 and 1
USERS = ("alice", "bob", "carol")
Result = TypeVar("Result")

posts = Bundle("posts")  # every message that was accepted
deliveries = Bundle("deliveries")  # every command a worker ever had in its hands
workers = Bundle("workers")  # every lease there ever was, superseded ones too
batches = Bundle("batches")  # every batch a persister ever read
threads = st.sampled_from((THREADS[0], *THREADS))
users = st.sampled_from(("alice", "alice", "alice", "bob"))
guests = st.sampled_from(USERS)
partitions = st.integers(0, PARTITIONS - 1)


class DrivenLog(RuleBasedStateMachine):
    runner: ClassVar[asyncio.Runner]
    redis: ClassVar[Any]  # a RepeatingRedis
    server: ClassVar[LogServer]
    ear: ClassVar[ChannelEar]

    def __init__(self) -> None:
        super().__init__()
        self.model = ChangingModel(
            PARTITIONS,
            queue_max=QUEUE_MAX,
            attempts_max=ATTEMPTS_MAX,
            hand_overs_max=event_log.HAND_OVERS_MAX,
            participants_max=thread_log.PARTICIPANTS_MAX,
        )
        self.retention = RetentionModel(self.model, retention.THREAD_EVENTS_KEPT)

    @classmethod
    def attach(cls, runner: asyncio.Runner, redis: RepeatingRedis) -> None:
        """Work on this server, in this loop; call `detach` at the end."""
        cls.runner, cls.redis = runner, redis
        cls.server, cls.ear = LogServer(redis, PARTITIONS), ChannelEar(redis, PARTITIONS)
        channels = {name: cls.server.keys(name).thread(name) for name in THREADS}
        cls.run(cls.ear.listen(channels))

    @classmethod
    def detach(cls) -> None:
        cls.run(cls.ear.close())

    @classmethod
    def run(cls, work: Coroutine[Any, Any, Result]) -> Result:
        return cls.runner.run(work)

    async def clean(self) -> None:
        await self.redis.flushall()
        await self.redis.script_flush()
        await self.server.prepare()
        await self.ear.forget()

    def has_commands(self) -> bool:
        return any(stream.commands for stream in self.model.partitions)

    def has_let_go(self) -> bool:
        return any(not thread.is_kept for thread in self.model.threads.values())

    def may_let_go(self) -> bool:
        known = (*self.model.threads.values(), *self.model.jobs.values())
        return any(one.expires for one in known)

    @invariant()
    def server_and_model_agree(self) -> None:
        subjects = Subjects(
            {name: partition_of_thread(name, PARTITIONS) for name in THREADS},
            {name: partition_of(name) for name in self.model.jobs},
            USERS,
            PARTITIONS,
        )
        found = self.run(observed(self.redis, subjects))
        assert found == expected(self.model, subjects)
        for stream in found["partitions"]:
            owners = [self.model.jobs[job_id].thread_id for job_id, _ in stream["commands"]]
            assert len(owners) == len(set(owners)), "two active jobs in one thread"

    @invariant()
    def channels_tell_the_streams(self) -> None:
        self.run(self.ear.catch_up())
        kept = {name: 0 for name, thread in self.model.threads.items() if thread.is_kept}
        stored = self.run(self.server.hot.records_of(kept)) if kept else {}
        for thread_id, thread in self.model.threads.items():
            heard = self.ear.heard[thread_id]
            check_thread_history(heard)
            check_facts(heard, thread)
            if thread.is_kept:
                assert heard[thread.kept_after :] == stored[thread_id]
        assert self.ear.woken == self.model.woken

    @invariant()
    def nothing_leaves_before_it_is_archived(self) -> None:
        for number, stream in enumerate(self.model.partitions):
            for index, thread_id, event in self.retention.unarchived(number):
                assert index >= stream.trimmed, f"{event} of {thread_id} was trimmed"
        for thread_id, thread in self.model.threads.items():
            if thread.expires or not thread.is_kept:
                rows = self.retention.rows[thread_id]
                assert len(rows) == thread.position, f"{thread_id} may expire with events missing"


def check_facts(heard: list[Record], thread: ModelThread) -> None:
    """The bytes of the events say what the model says."""
    assert [_place(record) for record in heard] == [event.place for event in thread.events]
    for record, event in zip(heard, thread.events, strict=True):
        told = json.loads(record.data)
        assert told["type"] == record.type
        assert told.get("seq", record.seq) == record.seq
        assert {name: told.get(name) for name in event.facts} == event.facts


def _place(record: Record) -> tuple[int, str, int, str]:
    return (record.position, record.stream, record.seq, record.type)
