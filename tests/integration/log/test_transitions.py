"""The log of steps: what moved a thing stands there, from the same atomic step, for a day."""

from __future__ import annotations

import re

import pytest

from shared.events import MessageDeleted, ThreadDeleted
from shared.keys import PartitionKeys
from shared.transitions import Transitions
from tests.support.log_server import AT, LogServer, RepeatingRedis, token

KEYS = PartitionKeys(0)
DAY_SECONDS = 24 * 3600


async def steps(server: LogServer, thing: str) -> list[tuple[str, str, str]]:
    """From, to and by whom, of the thing itself."""
    found = [step async for step in Transitions(server.redis).of(thing, 0) if step.id == thing]
    return [(step.source, step.target, step.by) for step in found]


async def archived(server: LogServer, thread: str, position: int) -> None:
    for kind in ("processing", "archived"):
        await server.retention.report(0, kind, {thread: position})


async def test_every_step_of_an_answered_question(server: LogServer, redis: RepeatingRedis) -> None:
    """Each once, though every call is sent twice."""
    redis.repeats = True
    delivery, lease = await server.running()
    for seq in (2, 3, 4):
        await server.append(lease, token(lease, seq))
    await server.finish(lease, 5)
    await archived(server, lease.thread_id, 7)
    command = delivery.command
    assert await steps(server, lease.job_id) == [
        ("", "queued", "alice"),
        ("queued", "running", "w1"),
        ("running", "done", "w1"),
    ]
    assert await steps(server, lease.thread_id) == [
        ("CREATING", "PENDING", "alice"),
        ("PENDING", "PROCESSING", "persister"),
        ("PROCESSING", "ACTIVE", "persister"),
    ]
    assert await steps(server, command.message_id) == [
        ("COMPOSING", "PENDING", "alice"),
        ("PENDING", "PROCESSING", "persister"),
        ("PROCESSING", "SENT", "persister"),
    ]
    assert await steps(server, command.reply_id) == [
        ("", "COMPOSING", "w1"),
        ("COMPOSING", "PENDING", "w1"),
        ("PENDING", "PROCESSING", "persister"),
        ("PROCESSING", "SENT", "persister"),
    ]
    assert not await server.redis.hexists(KEYS.thread(lease.thread_id), "moving")


async def test_tokens_leave_no_step(server: LogServer) -> None:
    _, lease = await server.running()
    before = await server.redis.xlen(KEYS.transitions)
    for seq in range(2, 50):
        await server.append(lease, token(lease, seq))
    assert await server.redis.xlen(KEYS.transitions) == before


async def test_a_message_waits_for_its_own_position(server: LogServer) -> None:
    delivery, lease = await server.running()
    await archived(server, lease.thread_id, 1)
    assert (await steps(server, delivery.command.message_id))[-1][1] == "PENDING"
    await server.retention.report(0, "archived", {lease.thread_id: 2})
    assert (await steps(server, delivery.command.message_id))[-1][1] == "SENT"
    assert len(await steps(server, delivery.command.reply_id)) == 1


async def test_another_attempt_stands_there(server: LogServer) -> None:
    delivery, lease = await server.running()
    await server.take_over(delivery)
    assert (await steps(server, lease.job_id))[-1] == ("running", "running", "w2")


async def test_a_cancelled_job_that_waited(server: LogServer) -> None:
    command = await server.posted(await server.thread())
    await server.log.request_cancel(command.job_id, command.thread_id)
    assert (await steps(server, command.job_id))[-1] == ("queued", "cancelled", "cancel")


async def test_a_deletion_of_a_message(server: LogServer, redis: RepeatingRedis) -> None:
    redis.repeats = True
    delivery, lease = await server.running()
    await server.finish(lease, 2)
    await archived(server, lease.thread_id, 4)
    command = delivery.command
    for message in (command.message_id, command.message_id):
        event = MessageDeleted(
            thread_id=lease.thread_id,
            at=AT,
            message_id=message,
            job_id=command.job_id,
            user="alice",
        )
        await server.threads.change_thread("alice", event)
    await archived(server, lease.thread_id, 6)
    assert (await steps(server, command.message_id))[-2:] == [
        ("SENT", "DELETING", "alice"),
        ("DELETING", "DELETED", "persister"),
    ]


async def test_a_message_that_is_deleted_before_it_is_sent(server: LogServer) -> None:
    command = await server.posted(await server.thread())
    event = MessageDeleted(
        thread_id=command.thread_id,
        at=AT,
        message_id=command.message_id,
        job_id=command.job_id,
        user="alice",
    )
    await server.threads.change_thread("alice", event)
    await archived(server, command.thread_id, 4)
    assert [target for _, target, _ in await steps(server, command.message_id)] == [
        "PENDING",
        "DELETING",
        "DELETED",
    ]


async def test_a_deletion_of_a_thread(server: LogServer) -> None:
    thread = await server.thread()
    await server.threads.change_thread("alice", ThreadDeleted(thread_id=thread, at=AT))
    await archived(server, thread, 2)
    assert await steps(server, thread) == [
        ("CREATING", "PENDING", "alice"),
        ("PENDING", "DELETING", "alice"),
        ("DELETING", "DELETED", "persister"),
    ]


async def test_steps_of_a_job_name_its_messages_and_its_thread(server: LogServer) -> None:
    delivery, lease = await server.running()
    command = delivery.command
    of_job = {step.id async for step in Transitions(server.redis).of(lease.job_id, 0)}
    assert of_job == {lease.job_id, command.message_id, command.reply_id}
    of_thread = {step.id async for step in Transitions(server.redis).of(lease.thread_id, 0)}
    assert of_thread == of_job | {lease.thread_id}


async def test_steps_leave_after_a_day(server: LogServer, cut_to_the_letter: int) -> None:
    seconds, _ = await server.redis.time()
    for age in (DAY_SECONDS + 60, DAY_SECONDS - 60):
        await server.redis.xadd(
            KEYS.transitions, {"i": "x", "f": "", "t": "x", "by": "", "h": "", "j": ""},
            id=f"{(seconds - age) * 1000}-0",
        )  # fmt: skip
    await archived(server, await server.thread(), 1)
    ages = [seconds - int(entry.split(b"-")[0]) // 1000 for entry, _ in await entries(server)]
    assert [age > DAY_SECONDS for age in ages] == [False] * 4


async def test_steps_are_bounded_in_number(
    server: LogServer, cut_to_the_letter: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = server.threads._create.source
    few = re.sub(r"(TRANSITIONS_MAX =.*?, )\d+", r"\g<1>3", source, count=1)
    assert few != source
    monkeypatch.setattr(server.threads._create, "source", few)
    monkeypatch.setattr(server.threads._create, "sha", "0" * 40)
    for _ in range(9):
        await server.thread()
    assert len(await entries(server)) == 3


async def entries(server: LogServer) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return await server.redis.xrange(KEYS.transitions)
