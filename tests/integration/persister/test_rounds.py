"""One transaction for what several partitions have; and who is at fault falls out of it."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.archive_round import ArchiveRound
from services.persister.batch import Entry, Share, read_batch
from services.persister.project_events import ProjectEvents
from services.persister.rounds import ENTRIES_MAX, UNDER_WAY_MAX, Outcome, Rounds
from services.persister.statements import RESTORED
from services.persister.store import StaleBatch, Store
from shared.continuity import Continuity
from shared.dead_letters import DeadLetters
from shared.keys import PERSISTERS, PartitionKeys
from shared.redis_client import Redis
from shared.retention import Retention
from shared.settings import Settings
from tests.integration.persister.dividing import look
from tests.integration.persister.observing import assert_archived, expiring, pending
from tests.integration.persister.running import eventually, is_consumed, running
from tests.integration.persister.tables import archive
from tests.integration.persister.writer import LIFE, PARTITIONS, TTL_SECONDS, Writer

TRANSACTIONS = text("SELECT count(DISTINCT xmin::text) FROM checkpoints")
EVENTS_OF_TRANSACTIONS = text("SELECT DISTINCT xmin::text, thread_id FROM events")
STREAMS = 16
TOKENS = 30


class Counting(Store):
    """Notes the partitions of each transaction that is tried."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.tried: list[list[int]] = []

    async def commit_round(self, shares: Sequence[Share]) -> Any:
        self.tried.append([share.partition for share in shares])
        return await super().commit_round(shares)


@pytest.fixture
def store(engine: AsyncEngine) -> Counting:
    return Counting(engine)


@pytest.fixture
def project(store: Counting, redis: Redis) -> ProjectEvents:
    retention = Retention(redis, idle_ttl_seconds=TTL_SECONDS)
    done = ArchiveRound(store, redis, retention, asyncio.Event())
    return ProjectEvents(done, DeadLetters(redis), Continuity(redis, PARTITIONS))


async def chats(writer: Writer) -> dict[int, Any]:
    """A whole job in each partition."""
    commands: dict[int, Any] = {}
    while len(commands) < PARTITIONS:
        command = await writer.chat()
        commands[writer.keys(command.thread_id).partition] = command
    return commands


async def deliver(redis: Redis) -> dict[int, list[Entry]]:
    """What is new in each partition, now pending."""
    logs = [PartitionKeys(partition).log for partition in range(PARTITIONS)]
    replies = [await redis.xreadgroup(PERSISTERS, "test", {log: ">"}) for log in logs]
    return {partition: reply[0][1] for partition, reply in enumerate(replies)}  # pyright: ignore


async def project_all(
    project: ProjectEvents, entries: dict[int, list[Entry]], lives: dict[int, str] | None = None
) -> list[Any]:
    told = {partition: LIFE for partition in entries} | (lives or {})
    work = (project(partition, entries[partition], told[partition]) for partition in entries)
    return await asyncio.gather(*work, return_exceptions=True)


async def test_partitions_share_a_transaction(
    writer: Writer, project: ProjectEvents, store: Counting, engine: AsyncEngine
) -> None:
    """And each knows what became of its own: its threads are reported, its entries acknowledged."""
    commands = await chats(writer)
    assert await project_all(project, await deliver(writer.redis)) == [None] * PARTITIONS
    assert store.tried == [list(range(PARTITIONS))]
    async with engine.connect() as connection:
        assert await connection.scalar(TRANSACTIONS) == 1
    await assert_archived(writer, engine)
    assert await pending(writer.redis) == {}
    for command in commands.values():
        assert await expiring(writer, command) == [True] * 3


async def test_a_refused_event_costs_other_partitions_one_more_transaction(
    writer: Writer, project: ProjectEvents, store: Counting, engine: AsyncEngine
) -> None:
    """They are not halved with it."""
    await chats(writer)
    bad = {"h": "t", "p": 1, "j": "j", "s": 1, "t": "token", "d": "no JSON"}
    thread_id = next(each for each in writer.threads if writer.keys(each).partition == 0)
    bad_id = await writer.write_fields(thread_id, bad)
    entries = await deliver(writer.redis)
    assert await project_all(project, entries) == [None] * PARTITIONS
    tries = Counter(partition for tried in store.tried for partition in tried)
    assert tries[1] == 2, "once together, once alone"
    assert all(len(tried) == 1 for tried in store.tried[1:])
    await assert_archived(writer, engine)
    letters: Any = await writer.redis.xrange(writer.keys(thread_id).dead)
    assert [fields[b"entry"].decode() for _, fields in letters] == [bad_id]
    assert await pending(writer.redis) == {}


async def test_a_stale_batch_falls_out_of_its_round(
    writer: Writer, project: ProjectEvents, engine: AsyncEngine
) -> None:
    commands = await chats(writer)
    entries = await deliver(writer.redis)
    async with engine.begin() as connection:
        await connection.execute(RESTORED, {"partitions": [0, 1], "life": "present"})
    lives = {0: "earlier", 1: "present"}
    stale, fresh = await project_all(project, entries, lives)
    assert isinstance(stale, StaleBatch)
    assert fresh is None
    of_the_fresh = {each for each in writer.threads if writer.keys(each).partition == 1}
    assert set(await archive(engine)) == of_the_fresh
    assert set(await pending(writer.redis)) == {entry_id for entry_id, _ in entries[0]}
    assert await expiring(writer, commands[0]) == [False] * 3


async def test_a_round_that_was_committed_and_not_acknowledged_may_come_again(
    writer: Writer, project: ProjectEvents, engine: AsyncEngine
) -> None:
    """Its persister died in between. What is new meanwhile stands in the same batches."""
    await chats(writer)
    entries = await deliver(writer.redis)
    batches = {partition: read_batch(each) for partition, each in entries.items()}
    await Store(engine).commit_round([Share(p, batch, LIFE) for p, batch in batches.items()])
    assert await pending(writer.redis)
    await chats(writer)
    more = await deliver(writer.redis)
    both = {partition: [*entries[partition], *more[partition]] for partition in entries}
    assert await project_all(project, both) == [None] * PARTITIONS
    await assert_archived(writer, engine)
    assert await pending(writer.redis) == {}
    async with engine.connect() as connection:
        counted = await connection.scalar(text("SELECT sum(event_count) FROM checkpoints"))
        assert counted == await connection.scalar(text("SELECT count(*) FROM events"))


async def test_streams_of_all_partitions_trickle_into_the_same_transactions(
    writer: Writer, settings: Settings, engine: AsyncEngine
) -> None:
    await look(engine)  # a part that is made later takes rows along
    leases = [await writer.begin(await writer.ask()) for _ in range(STREAMS)]
    assert len({writer.keys(each).partition for each in writer.threads}) == PARTITIONS
    async with running(settings):
        last = [lease.seq for lease in leases]
        for _ in range(TOKENS):
            for number, lease in enumerate(leases):
                last[number] = await writer.say(lease, ["x"], after=last[number])
        await eventually(lambda: is_consumed(writer.redis))
    rounds: dict[str, set[int]] = defaultdict(set)
    async with engine.connect() as connection:
        for xmin, thread_id in await connection.execute(EVENTS_OF_TRANSACTIONS):
            rounds[xmin].add(writer.keys(thread_id).partition)
    assert max(map(len, rounds.values())) == PARTITIONS
    await assert_archived(writer, engine)


class Recorder:
    """Work that goes on until it is let go."""

    def __init__(self) -> None:
        self.begun: list[list[Share]] = []
        self.let_go = asyncio.Event()

    async def __call__(self, shares: Sequence[Share]) -> Sequence[Outcome]:
        self.begun.append(list(shares))
        await self.let_go.wait()
        return [None] * len(shares)


def share(partition: int, entries: int) -> Share:
    fields = {b"h": b"t", b"p": b"1", b"j": b"j", b"s": b"1", b"t": b"token", b"d": b"{}"}
    return Share(partition, read_batch([(b"1-0", fields)] * entries), LIFE)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_rounds_are_bounded_in_size_and_number() -> None:
    work = Recorder()
    rounds = Rounds(work)
    joined = [asyncio.create_task(rounds.join(share(each, 1000))) for each in range(12)]
    await turns()
    sizes = [sum(each.batch.count for each in begun) for begun in work.begun]
    assert len(sizes) == UNDER_WAY_MAX
    assert max(sizes) <= ENTRIES_MAX
    work.let_go.set()
    await asyncio.gather(*joined)
    assert sorted(each.partition for begun in work.begun for each in begun) == list(range(12))


async def test_a_partition_has_one_share_of_a_round() -> None:
    work = Recorder()
    rounds = Rounds(work)
    joined = [asyncio.create_task(rounds.join(share(each, 1000))) for each in (1, 1, 0, 0)]
    await turns()
    work.let_go.set()
    await asyncio.gather(*joined)
    of_rounds = [[each.partition for each in begun] for begun in work.begun]
    assert [0, 1] in of_rounds, "in order"
    assert sorted(partition for each in of_rounds for partition in each) == [0, 0, 1, 1]
    assert all(len({*each}) == len(each) for each in of_rounds)


async def test_a_failure_of_the_work_is_told_to_those_who_were_in_it() -> None:
    async def work(shares: Sequence[Share]) -> Sequence[Outcome]:
        raise OSError("all of them") if shares[0].partition == 0 else AssertionError

    rounds = Rounds(work)
    found = await asyncio.gather(
        *(rounds.join(share(each, 1)) for each in (0, 1)), return_exceptions=True
    )
    assert [type(each) for each in found] == [OSError, OSError]
