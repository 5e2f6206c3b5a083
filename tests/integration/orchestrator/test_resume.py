"""A worker whose attempt Redis has lost asks for it, once, before it believes that it has lost."""

from __future__ import annotations

from typing import Any

import pytest

from services.orchestrator.job_writer import JobForgotten, Stop
from shared.continuity import Continuity
from shared.event_log import Appended, EventLog, Lease
from shared.keys import PartitionKeys
from tests.integration.orchestrator.gateway import Gateway, kinds
from tests.integration.orchestrator.test_appender import (
    GatedLog,
    appender_on,
    begun,
    finish,
    is_lost,
)
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import LIMITS, Bench, patient
from tests.support.model_server import ModelServer


class AskedLog(EventLog):
    """Knows how often it was asked for an attempt."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway.redis, gateway.partitions)
        self.answers: list[str] = []

    async def resume_attempt(self, lease: Lease) -> Appended:
        answer = await super().resume_attempt(lease)
        self.answers.append(answer.code)
        return answer


async def open_right(gateway: Gateway, lease: Lease) -> None:
    """Redis had lost the beginning of the attempt, and the archive knew it."""
    redis: Any = gateway.redis
    await redis.hset(lease.keys.job(lease.job_id), "owner_token", "")


async def test_a_fenced_writer_takes_its_attempt_up_again(gateway: Gateway) -> None:
    log, reasons = AskedLog(gateway), list[Stop]()
    async with appender_on(log) as appender:
        command, lease = await begun(gateway)
        writer = appender.open(lease, stop=reasons.append)
        writer.token("one ", 1)
        await writer.flushed()
        await open_right(gateway, lease)
        writer.token("two ", 1)
        await writer.flushed()
        await finish(writer, command)
    assert (log.answers, reasons) == (["GAP"], [])
    events = await gateway.done(command)
    assert (events[-1]["attempt"], events[-1]["content"]) == (1, "one two ")


async def test_a_zombie_asks_once_and_is_refused(gateway: Gateway) -> None:
    log, reasons = AskedLog(gateway), list[Stop]()
    async with appender_on(log) as appender:
        command, lease = await begun(gateway)
        writer = appender.open(lease, stop=reasons.append)
        entry_id = await gateway.deliver_again(command, "w2")
        other = await gateway.log.begin_attempt(
            command, entry_id=entry_id, consumer="w2", attempts_max=3, model="m"
        )
        assert other.outcome == "BEGUN"
        writer.token("x", 1)
        await is_lost(writer)
        writer.token("y", 1)
    assert (log.answers, reasons) == (["FENCED"], [Stop.LOST])
    assert kinds(await gateway.events(command)) == ["started", "started"]


async def test_a_job_that_redis_does_not_know_is_forgotten_not_lost(gateway: Gateway) -> None:
    reasons = list[Stop]()
    async with appender_on(gateway.log) as appender:
        _, lease = await begun(gateway)
        writer = appender.open(lease, stop=reasons.append)
        await gateway.redis.delete(lease.keys.job(lease.job_id))
        writer.token("x", 1)
        with pytest.raises(JobForgotten):
            await writer.flushed()
    assert reasons == [Stop.FORGOTTEN]


async def test_a_fenced_append_is_no_answer_to_the_heartbeats_doubt(gateway: Gateway) -> None:
    """Which comes while the append is under way."""
    log, reasons = GatedLog(gateway), list[Stop]()
    async with appender_on(log) as appender:
        command, lease = await begun(gateway)
        writer = appender.open(lease, stop=reasons.append)
        await open_right(gateway, lease)
        writer.token("x", 1)
        await log.called(1)
        writer.contest()
        for _ in range(3):
            log.gate.release()
        await finish(writer, command)
    assert reasons == []
    assert (await gateway.done(command))[-1]["content"] == "x"


async def test_a_writer_asks_until_its_partition_is_open(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.orchestrator.appender.RETRY_SECONDS", 0.02)
    log, reasons = AskedLog(gateway), list[Stop]()
    async with appender_on(log) as appender:
        command, lease = await begun(gateway)
        writer = appender.open(lease, stop=reasons.append)
        await open_right(gateway, lease)
        redis: Any = gateway.redis
        await redis.hdel(PartitionKeys(lease.keys.partition).meta, "verified")
        writer.contest()
        refused = await commands_rejected(redis)

        async def was_refused_again() -> bool:
            return await commands_rejected(redis) > refused + 2

        await until(was_refused_again)
        assert (log.answers, reasons) == ([], [])
        await Continuity(redis, gateway.partitions).trust()
        await finish(writer, command)
    assert (log.answers, reasons) == (["GAP"], [])


async def commands_rejected(redis: Any) -> int:
    return (await redis.info("errorstats")).get("errorstat_UNVERIFIED", {}).get("count", 0)


async def test_a_heartbeat_that_finds_the_attempt_gone_makes_the_writer_ask(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    """The model is silent: there is nothing to append that could be fenced."""
    bench.agent("default", "fake:hang_before_first,times=1")
    async with bench.worker(limits=patient(LIMITS)):
        command = await gateway.ask()
        await gateway.reached(command, lambda events: bool(events))
        name = gateway.keys(command.thread_id).job(command.job_id)
        redis: Any = gateway.redis
        await redis.hset(name, "owner_token", "")

        async def is_taken() -> bool:
            return bool(await redis.hget(name, "owner_token"))

        await until(is_taken)
        await gateway.cancel(command)
        events = await gateway.done(command)
    assert (kinds(events), events[-1]["attempt"]) == (["started", "done"], 1)
    assert model.statistics.requests == 1
