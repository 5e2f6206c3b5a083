"""Many callers in the same moment, on connections of their own: each promise holds for each job."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncGenerator

import pytest

from shared.errors import IdempotencyMismatch
from shared.event_log import Append, Lease
from shared.events import ThreadCreated
from shared.idempotency import Claims, Idempotency, Plan
from shared.ids import new_thread_id
from shared.redis_client import connect
from tests.support.event_history import check_thread_history
from tests.support.log_server import AT, LogServer, done, token

PARTITIONS = 4
JOBS = 1000
BATCH = 100  # jobs in flight at once
KEYS = 100
CALLERS = 16
WORKERS = 4
TOKENS = 30


@pytest.fixture
async def crowd(redis_url: str) -> AsyncGenerator[LogServer]:
    """The log of several partitions on many connections."""
    client = connect(redis_url)
    server = LogServer(client, PARTITIONS)
    await server.prepare()
    yield server
    await client.aclose()


async def one_running_job(server: LogServer, job: int) -> Lease:
    """A job of its own thread, begun. Deliveries may come in any order: any job will do."""
    thread = await server.thread()
    await server.posted(thread)
    partition = server.keys(thread).partition
    delivery = await server.deliver(partition, f"w{job}")
    assert delivery is not None
    begun = await server.begin(delivery)
    assert begun.lease is not None
    return begun.lease


async def end_it_three_ways(server: LogServer, lease: Lease) -> list[str]:
    """The worker ends the job while two devices cancel it."""
    answers = await asyncio.gather(
        *random.sample(
            [
                server.finish(lease, 2),
                server.log.request_cancel(lease.job_id, lease.thread_id),
                server.log.request_cancel(lease.job_id, lease.thread_id),
            ],
            k=3,
        )
    )
    return sorted(str(answer) for answer in answers)


async def test_a_job_ends_once_however_many_want_to_end_it(crowd: LogServer) -> None:
    answers: Counter[str] = Counter()
    for start in range(0, JOBS, BATCH):
        jobs = range(start, start + BATCH)
        leases = await asyncio.gather(*(one_running_job(crowd, job) for job in jobs))
        for ended in await asyncio.gather(*(end_it_three_ways(crowd, one) for one in leases)):
            answers.update(ended)
        for lease in leases:
            assert (await crowd.history(lease.thread_id)).count("done") == 1
    assert answers["OK"] == JOBS
    assert answers["running"] > 0, "no cancel ever came first: nothing raced"
    assert answers["done"] > 0, "no cancel ever came last: nothing raced"
    assert set(answers) == {"OK", "running", "done"}


async def test_a_waiting_job_is_cancelled_or_begun_never_both(crowd: LogServer) -> None:
    outcomes: Counter[str] = Counter()
    for _ in range(BATCH):
        thread = await crowd.thread()
        command = await crowd.posted(thread)
        delivery = await crowd.deliver(crowd.keys(thread).partition)
        assert delivery is not None
        race = [
            crowd.log.request_cancel(command.job_id, thread),
            crowd.begin(delivery),
            crowd.log.request_cancel(command.job_id, thread),
        ]
        random.shuffle(race)
        await asyncio.gather(*race)
        job = await crowd.hot.job(command.job_id)
        assert job is not None
        outcomes[job.status] += 1
        assert (await crowd.history(thread))[2:] in (["done"], ["started"])
    assert set(outcomes) == {"cancelled", "running"}, "nothing raced"


async def post_with_key(server: LogServer, key: str, body: str) -> str:
    claims, mine = Claims(server.redis, PARTITIONS), Plan.new(new_thread_id(), PARTITIONS)
    try:
        plan = await claims.claim("alice", Idempotency(key, body), mine)
    except IdempotencyMismatch:
        return "MISMATCH"
    created = ThreadCreated(thread_id=plan.thread_id, at=AT, owner="alice")
    command = server.command(plan.thread_id).model_copy(update={"job_id": plan.job_id})
    return await server.post(command, create=created)


async def test_a_key_makes_one_command_however_many_send_it(crowd: LogServer) -> None:
    names = [f"key {number}" for number in range(KEYS)]
    calls = [(name, "body") for name in names for _ in range(CALLERS)]
    random.shuffle(calls)
    jobs = await asyncio.gather(*(post_with_key(crowd, *call) for call in calls))
    answered = list(zip(calls, jobs, strict=True))
    answers = {name: {job for (key, _), job in answered if key == name} for name in names}
    assert [len(answer) for answer in answers.values()] == [1] * KEYS
    commands = 0
    for partition in range(PARTITIONS):
        commands += await crowd.redis.xlen(f"{{hw:{partition}}}:commands")
    assert commands == KEYS
    assert await post_with_key(crowd, names[0], "other body") == "MISMATCH"


async def test_two_bodies_under_one_key_cannot_both_win(crowd: LogServer) -> None:
    calls = [("key", f"body {number % 2}") for number in range(CALLERS)]
    answers = await asyncio.gather(*(post_with_key(crowd, *call) for call in calls))
    assert sorted(Counter(answers).values()) == [CALLERS // 2] * 2
    assert "MISMATCH" in answers


async def test_workers_that_take_a_job_from_each_other_write_one_history(
    crowd: LogServer,
) -> None:
    """Every worker claims, begins and appends without regard for the others."""
    thread = await crowd.thread()
    command = await crowd.posted(thread)
    first = await crowd.deliver(crowd.keys(thread).partition, "w0")
    assert first is not None
    fenced: Counter[str] = Counter()

    async def work(consumer: str) -> None:
        claimed = await crowd.claim(first, consumer)
        assert claimed is not None
        begun = await crowd.begin(claimed, attempts_max=100)
        if begun.lease is None:
            fenced[begun.outcome] += 1
            return
        for number in range(TOKENS):
            event = token(begun.lease, begun.lease.seq + number + 1)
            answer = await crowd.log.append_events(Append(begun.lease, [event]))
            fenced[answer.code] += 1
            if answer.code != "OK":
                return
        last = begun.lease.seq + TOKENS + 1
        content = "x" * TOKENS
        event = done(begun.lease, last, "done", content)
        answer = await crowd.log.append_events(Append(begun.lease, [event], "done"))
        fenced[answer.code] += 1

    await asyncio.gather(*(work(f"w{number}") for number in range(1, WORKERS + 1)))
    assert fenced["FENCED"] + fenced["LOST"] == WORKERS - 1
    records = await crowd.records(thread)
    check_thread_history(records)
    assert records[-1].type == "done"
    assert json.loads(records[-1].data)["job_id"] == command.job_id
