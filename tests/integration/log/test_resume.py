"""resume_attempt, and renew_lease's doubt: Redis has lost the beginning of an attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.event_log import Begun, Lease, Renewed
from shared.keys import PartitionKeys
from tests.integration.log.looking import everything, renewed
from tests.support.log_server import ChannelEar, LogServer, RepeatingRedis, token

KEYS = PartitionKeys(0)
Became = Callable[[LogServer], Awaitable[Lease]]


async def rewind(server: LogServer, lease: Lease, **fields: Any) -> None:
    """Redis knows the job as it was before; of its thread, the position is of no interest here."""
    await server.redis.hset(KEYS.job(lease.job_id), mapping=fields)


async def forget_attempt(server: LogServer, lease: Lease) -> None:
    """Nobody knows of it: `started` is not in the stream, the hash is at the attempt before."""
    records = await server.records(lease.thread_id)
    stream, thread = KEYS.thread_events(lease.thread_id), KEYS.thread(lease.thread_id)
    await server.redis.delete(stream)
    kept = [record for record in records if record.position < records[-1].position]
    for record in kept:
        fields = {"j": record.stream, "s": record.seq, "t": record.type, "d": record.data}
        await server.redis.xadd(stream, fields, id=f"{record.position}-0")
    await server.redis.hset(thread, "position", kept[-1].position)
    status = "queued" if lease.attempt == 1 else "running"
    await rewind(server, lease, status=status, attempt=lease.attempt - 1, seq=lease.seq - 1)
    await server.redis.hdel(KEYS.job(lease.job_id), "owner_token", "begun_by")


async def test_an_attempt_the_archive_knew_is_resumed(server: LogServer) -> None:
    _, lease = await server.running()
    await server.append(lease, token(lease, 2))
    await rewind(server, lease, owner_token="")
    assert await server.append(lease, token(lease, 3)) == "FENCED"
    answer = await server.log.resume_attempt(lease)
    assert (answer.code, answer.last_seq) == ("GAP", 2)
    assert await server.append(lease, token(lease, 3)) == "OK"


@pytest.mark.parametrize("repeats", [False, True])
async def test_an_attempt_nobody_knew_is_resumed(
    server: LogServer, redis: RepeatingRedis, repeats: bool
) -> None:
    _, lease = await server.running()
    before = await server.records(lease.thread_id)
    await forget_attempt(server, lease)
    assert len(await server.records(lease.thread_id)) == len(before) - 1
    redis.repeats = repeats
    answer = await server.log.resume_attempt(lease)
    redis.repeats = False
    assert (answer.code, answer.last_seq) == ("GAP", 1)
    assert await server.records(lease.thread_id) == before
    assert len(await server.read_log(0, "p1", 10)) == len(before) + 1
    job = await server.hot.job(lease.job_id)
    assert job is not None
    assert (job.status, job.attempt) == ("running", 1)
    assert await server.append(lease, token(lease, 2)) == "OK"
    assert (await renewed(server, lease)).kept


async def test_what_a_resumption_appends_is_published(server: LogServer, ear: ChannelEar) -> None:
    _, lease = await server.running()
    await forget_attempt(server, lease)
    await ear.listen({lease.thread_id: KEYS.thread(lease.thread_id)})
    await server.log.resume_attempt(lease)
    await ear.catch_up()
    assert ear.heard[lease.thread_id] == (await server.records(lease.thread_id))[-1:]


async def test_a_later_attempt_nobody_knew_is_resumed(server: LogServer) -> None:
    delivery, first = await server.running()
    await server.append(first, token(first, 2))
    lease = (await server.take_over(delivery)).lease
    assert lease is not None
    before = await server.records(lease.thread_id)
    await forget_attempt(server, lease)
    assert (await server.log.resume_attempt(lease)).last_seq == 3
    assert await server.records(lease.thread_id) == before
    assert await server.append(first, token(first, 3)) == "FENCED"


async def test_resumed_again_after_it_has_gone_on(server: LogServer, redis: RepeatingRedis) -> None:
    _, lease = await server.running()
    await server.append(lease, token(lease, 2))
    redis.repeats = True
    answer = await server.log.resume_attempt(lease)
    assert (answer.code, answer.last_seq) == ("GAP", 2)


async def test_no_attempt_is_resumed_from_which_events_are_missing_in_front(
    server: LogServer,
) -> None:
    """Nobody can prove what stood between the end that Redis knows and `started`."""
    delivery, first = await server.running()
    await server.append(first, token(first, 2))
    lease = (await server.take_over(delivery)).lease
    assert lease is not None
    await rewind(server, lease, attempt=1, seq=1)
    assert (await server.log.resume_attempt(lease)).code == "FENCED"


async def taken_over(server: LogServer) -> Lease:
    delivery, lease = await server.running()
    await server.take_over(delivery)
    return lease


async def over(server: LogServer) -> Lease:
    _, lease = await server.running()
    await server.finish(lease, 2)
    await rewind(server, lease, owner_token="")
    return lease


async def handed_over(server: LogServer) -> Lease:
    _, lease = await server.running()
    assert await server.log.release_lease(lease, "w1")
    return lease


async def begun_meanwhile(server: LogServer) -> Lease:
    """Restored with its right open, and another worker was faster."""
    delivery, lease = await server.running()
    await rewind(server, lease, owner_token="")
    assert (await server.take_over(delivery)).outcome == "BEGUN"
    return lease


async def begun_in_its_place(server: LogServer) -> Lease:
    """Nobody knew of the attempt, and another worker has begun one of the same number."""
    delivery, lease = await server.running()
    await forget_attempt(server, lease)
    other: Begun = await server.take_over(delivery)
    assert other.lease is not None
    assert (other.lease.attempt, other.lease.seq) == (lease.attempt, lease.seq)
    return lease


async def claimed_for_cancel(server: LogServer) -> Lease:
    delivery, lease = await server.running()
    await rewind(server, lease, owner_token="", cancel="1")
    assert (await server.take_over(delivery)).outcome == "CANCELLED"
    return lease


async def passed_by_its_elder(server: LogServer) -> Lease:
    """Redis stands at the right number, but two attempts earlier."""
    delivery, first = await server.running()
    await server.take_over(delivery)
    lease = (await server.take_over(delivery, attempts_max=3)).lease
    assert lease is not None
    await rewind(server, lease, attempt=1, seq=1, owner_token=first.owner_token)
    assert await server.append(first, token(first, 2)) == "OK"
    return lease


OTHERS = [
    passed_by_its_elder,
    taken_over,
    over,
    handed_over,
    begun_meanwhile,
    begun_in_its_place,
    claimed_for_cancel,
]


@pytest.mark.parametrize("became", OTHERS, ids=lambda became: became.__name__)
async def test_an_attempt_that_is_somebody_elses_is_not_given_back(
    server: LogServer, became: Became
) -> None:
    lease = await became(server)
    before = await everything(server)
    assert (await server.log.resume_attempt(lease)).code == "FENCED"
    assert await everything(server) == before


async def test_no_attempt_of_an_unknown_job_is_given_back(server: LogServer) -> None:
    _, lease = await server.running()
    await server.redis.delete(KEYS.job(lease.job_id))
    before = await everything(server)
    assert (await server.log.resume_attempt(lease)).code == "UNKNOWN"
    assert await everything(server) == before


async def test_a_renewal_tells_of_an_attempt_that_redis_has_lost(server: LogServer) -> None:
    _, lease = await server.running()
    for fields in ({"owner_token": ""}, {"attempt": 0}):
        before = await server.redis.hgetall(KEYS.job(lease.job_id))
        await rewind(server, lease, **fields)
        assert await renewed(server, lease) == Renewed(kept=False, cancel=False, rewound=True)
        await server.redis.hset(KEYS.job(lease.job_id), mapping=before)
        assert await renewed(server, lease) == Renewed(kept=True, cancel=False, rewound=False)
    await server.redis.delete(KEYS.job(lease.job_id))
    assert (await renewed(server, lease)).rewound


async def test_a_renewal_of_a_superseded_attempt_is_no_doubt(server: LogServer) -> None:
    lease = await taken_over(server)
    assert await renewed(server, lease) == Renewed(kept=False, cancel=False, rewound=False)
    await rewind(server, lease, owner_token="")  # the later attempt's
    assert not (await renewed(server, lease)).rewound
    released = await handed_over(server)
    assert not (await renewed(server, released)).rewound
