"""begin_attempt, append_events, renew_lease, release_lease: who may write, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from shared.codec import encode
from shared.event_log import Append, EventLog, NumberedEvent
from shared.events import ErrorRaised
from shared.redis_client import ResponseError
from shared.redis_scripts import run
from tests.support.log_server import (
    AT,
    ATTEMPTS_MAX,
    LogServer,
    RepeatingRedis,
    done,
    error,
    token,
)


async def pending_for(server: LogServer) -> list[str]:
    """The consumers that commands of partition 0 are pending for."""
    rows = await server.redis.xpending_range("{hw:0}:commands", "orchestrators", "-", "+", 10)
    return [row["consumer"].decode() for row in rows]


async def test_begin_appends_started_and_hands_out_a_lease(server: LogServer) -> None:
    delivery, lease = await server.running()
    records = await server.records(lease.thread_id)
    started = json.loads(records[-1].data)
    assert (lease.attempt, lease.seq, lease.first) == (1, 1, 2)
    assert (started["type"], started["seq"], started["attempt"]) == ("started", 1, 1)
    assert (started["job_id"], started["agent"]) == (lease.job_id, delivery.command.agent)
    job = await server.hot.job(lease.job_id)
    assert job is not None
    assert (job.status, job.attempt, job.started_at) == ("running", 1, started["at"])


async def test_begin_of_an_entry_that_went_to_another_consumer_is_lost(server: LogServer) -> None:
    await server.posted(await server.thread())
    delivery = await server.deliver()
    assert delivery is not None
    claimed = await server.claim(delivery, "w2")
    assert claimed is not None
    assert (await server.begin(delivery)).outcome == "LOST"
    assert (await server.begin(claimed)).outcome == "BEGUN"


async def test_begin_sent_again_is_the_same_attempt(
    server: LogServer, redis: RepeatingRedis
) -> None:
    await server.posted(await server.thread())
    delivery = await server.deliver()
    assert delivery is not None
    redis.repeats = True
    begun = await server.begin(delivery)
    assert begun.lease is not None
    assert (begun.outcome, begun.lease.attempt, begun.lease.seq) == ("BEGUN", 1, 1)
    assert (await server.history(delivery.command.thread_id)).count("started") == 1


async def test_begin_beyond_the_limit_is_exhausted_however_often_it_is_sent(
    server: LogServer, redis: RepeatingRedis
) -> None:
    delivery, lease = await server.running()
    redis.repeats = True
    begun = await server.take_over(delivery, attempts_max=1)
    assert begun.lease is not None
    assert (begun.outcome, begun.lease.attempt) == ("EXHAUSTED", 1)
    assert (await server.history(lease.thread_id)).count("started") == 1


async def test_begin_of_a_flagged_job_is_cancelled_however_often_it_is_sent(
    server: LogServer, redis: RepeatingRedis
) -> None:
    thread = await server.thread()
    await server.posted(thread)
    await server.posted(thread, on_busy="interrupt")
    delivery = await server.deliver()
    assert delivery is not None
    redis.repeats = True
    begun = await server.begin(delivery)
    assert begun.lease is not None
    assert (begun.outcome, begun.lease.attempt, begun.lease.seq) == ("CANCELLED", 0, 0)
    assert await server.finish(begun.lease, 1, "cancelled") == "DUPLICATE"  # the second sending
    assert (await server.history(thread))[-1] == "done"


async def test_begin_of_a_job_that_is_over_acknowledges_its_entry(server: LogServer) -> None:
    thread = await server.thread()
    command = await server.posted(thread)
    delivery = await server.deliver()
    assert delivery is not None
    assert await server.log.request_cancel(command.job_id, thread) == "cancelled"
    assert (await server.begin(delivery)).outcome == "ENDED"
    assert await server.history(thread) == ["thread.created", "message.posted", "done"]


async def test_begin_of_an_unknown_job_changes_nothing(server: LogServer) -> None:
    thread = await server.thread()
    await server.posted(thread)
    delivery = await server.deliver()
    assert delivery is not None
    await server.redis.delete(server.keys(thread).job(delivery.command.job_id))
    assert (await server.begin(delivery)).outcome == "UNKNOWN"
    assert await pending_for(server) == ["w1"]


async def test_append_of_a_superseded_attempt_is_fenced(server: LogServer) -> None:
    delivery, lease = await server.running()
    await server.take_over(delivery)
    before = await server.records(lease.thread_id)
    assert await server.append(lease, token(lease, 2)) == "FENCED"
    assert await server.append(lease, token(lease, 3)) == "FENCED"
    assert await server.finish(lease, 3) == "FENCED"
    assert await server.records(lease.thread_id) == before


async def test_append_needs_the_attempt_it_was_given(server: LogServer) -> None:
    _, lease = await server.running()
    forged = replace(lease, attempt=lease.attempt + 1)
    assert await server.append(forged, token(forged, 2)) == "FENCED"


async def test_append_needs_the_token_it_was_given(server: LogServer) -> None:
    """At the attempt limit the number stays: the token alone tells the new owner from the old."""
    delivery, lease = await server.running()
    begun = await server.take_over(delivery, attempts_max=1)
    assert begun.lease is not None
    assert begun.lease.attempt == lease.attempt
    assert await server.append(lease, token(lease, 2)) == "FENCED"
    assert await server.append(begun.lease, error(begun.lease, 2)) == "OK"


async def test_append_skips_what_is_there_and_adds_what_is_not(server: LogServer) -> None:
    _, lease = await server.running()
    events = [token(lease, seq) for seq in (2, 3, 4)]
    assert await server.append(lease, *events[:2]) == "OK"
    assert await server.append(lease, *events) == "OK"
    assert [record.seq for record in await server.records(lease.thread_id)][2:] == [1, 2, 3, 4]


async def test_append_sent_again_is_a_duplicate_also_when_the_job_is_over(
    server: LogServer,
) -> None:
    _, lease = await server.running()
    assert await server.append(lease, token(lease, 2)) == "OK"
    assert await server.append(lease, token(lease, 2)) == "DUPLICATE"
    assert await server.finish(lease, 3) == "OK"
    assert await server.finish(lease, 3) == "DUPLICATE"
    assert (await server.history(lease.thread_id)).count("done") == 1


async def test_append_behind_a_gap_is_told_where_to_go_on(server: LogServer) -> None:
    _, lease = await server.running()
    answer = await server.log.append_events(Append(lease, [token(lease, 4)]))
    assert (answer.code, answer.last_seq) == ("GAP", 1)
    assert await server.append(lease, *(token(lease, seq) for seq in (2, 3, 4))) == "OK"


async def test_append_after_done_is_fenced(server: LogServer) -> None:
    _, lease = await server.running()
    assert await server.finish(lease, 2) == "OK"
    assert await server.append(lease, token(lease, 3)) == "FENCED"
    assert await server.finish(lease, 3, "cancelled") == "FENCED"
    assert (await server.history(lease.thread_id))[-1] == "done"


async def test_append_without_events_is_an_error_of_the_caller(server: LogServer) -> None:
    _, lease = await server.running()
    with pytest.raises(ResponseError, match="at least one event"):
        await server.append(lease)


async def test_append_tells_the_worker_of_a_cancel(server: LogServer) -> None:
    _, lease = await server.running()
    assert not (await server.log.append_events(Append(lease, [token(lease, 2)]))).cancel
    await server.log.request_cancel(lease.job_id, lease.thread_id)
    assert (await server.log.append_events(Append(lease, [token(lease, 3)]))).cancel


async def test_done_acknowledges_the_command_and_starts_the_next_job(server: LogServer) -> None:
    _, lease = await server.running()
    second = await server.posted(lease.thread_id)
    third = await server.posted(lease.thread_id)
    assert await server.deliver() is None
    await server.finish(lease, 2)
    delivery = await server.deliver()
    assert delivery is not None
    assert delivery.command == second
    assert await pending_for(server) == ["w1"]
    assert await server.redis.xlen("{hw:0}:commands") == 1
    assert await server.redis.lrange(
        server.keys(lease.thread_id).thread_queue(lease.thread_id), 0, -1
    ) == [third.job_id.encode()]


async def test_the_final_facts_are_the_last_event(server: LogServer) -> None:
    _, lease = await server.running()
    last = done(lease, 3, "done", "x")
    await server.append(lease, token(lease, 2), last, final="done")
    job = await server.hot.job(lease.job_id)
    assert job is not None
    assert (job.status, job.last_seq, job.done, job.is_over) == ("done", 3, last.data, True)
    assert job.finished_at is not None


async def test_a_job_given_up_leaves_a_dead_letter(server: LogServer) -> None:
    delivery, _ = await server.running()
    begun = await server.take_over(delivery, attempts_max=1)
    assert begun.lease is not None
    events = [error(begun.lease, 2), done(begun.lease, 3, "failed")]
    await server.log.append_events(Append(begun.lease, events, "failed", dead_reason="exhausted"))
    [(_, row)] = await server.redis.xrange("{hw:0}:dead")
    assert (row[b"j"].decode(), row[b"reason"]) == (begun.lease.job_id, b"exhausted")


async def test_renewal_keeps_the_command_from_a_claimer(server: LogServer) -> None:
    delivery, lease = await server.running()
    claimed = await server.claim(delivery, "w2")
    assert claimed is not None
    reply = await run(server.redis, server.log.renew_call(lease, "w1"))
    assert EventLog.renewed(reply).kept
    assert await pending_for(server) == ["w1"]
    assert (await server.begin(claimed)).outcome == "LOST"


async def test_renewal_by_a_superseded_worker_is_lost(server: LogServer) -> None:
    delivery, lease = await server.running()
    await server.take_over(delivery)
    reply = await run(server.redis, server.log.renew_call(lease, "w1"))
    assert not EventLog.renewed(reply).kept
    assert await pending_for(server) == ["w2"]


async def test_renewal_after_the_end_brings_nothing_back(server: LogServer) -> None:
    _, lease = await server.running()
    await server.finish(lease, 2)
    reply = await run(server.redis, server.log.renew_call(lease, "w1"))
    assert not EventLog.renewed(reply).kept
    assert await pending_for(server) == []


async def test_renewal_brings_back_what_a_recreated_group_has_forgotten(server: LogServer) -> None:
    _, lease = await server.running()
    await server.redis.xgroup_destroy("{hw:0}:commands", "orchestrators")
    await server.prepare()
    reply = await run(server.redis, server.log.renew_call(lease, "w1"))
    assert EventLog.renewed(reply).kept
    assert await pending_for(server) == ["w1"]


async def test_a_released_job_goes_to_the_next_who_looks(server: LogServer) -> None:
    delivery, lease = await server.running()
    assert await server.log.release_lease(lease, "w1")
    assert await server.append(lease, token(lease, 2)) == "FENCED"
    hour_ms = 3_600_000
    taken = await server.redis.xautoclaim("{hw:0}:commands", "orchestrators", "w2", hour_ms, "0-0")
    assert [entry_id.decode() for entry_id, _ in taken[1]] == [delivery.entry_id]


async def test_release_by_a_superseded_worker_changes_nothing(server: LogServer) -> None:
    delivery, lease = await server.running()
    begun = await server.take_over(delivery)
    assert begun.lease is not None
    assert not await server.log.release_lease(lease, "w1")
    assert await pending_for(server) == ["w2"]
    assert await server.append(begun.lease, token(begun.lease, 3)) == "OK"


async def test_a_take_over_counts_on(server: LogServer) -> None:
    delivery, lease = await server.running()
    await server.append(lease, token(lease, 2))
    begun = await server.take_over(delivery)
    assert begun.lease is not None
    assert (begun.lease.attempt, begun.lease.seq) == (ATTEMPTS_MAX, 3)
    assert await server.finish(begun.lease, 4) == "OK"


async def test_types_of_a_newer_version_are_stored_as_they_came(server: LogServer) -> None:
    _, lease = await server.running()
    known = ErrorRaised(
        job_id=lease.job_id, seq=2, attempt=1, at=AT, code="c", message="m", retryable=False
    )
    data = encode(known).replace(b'"v":1', b'"v":2,"more":[1]')
    assert await server.append(lease, NumberedEvent(2, "error", data)) == "OK"
    assert (await server.records(lease.thread_id))[-1].data == data
