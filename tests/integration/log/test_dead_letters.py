"""Dead letters: what is retried leaves them once, and goes back as it was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.dead_letters import PAGE_LETTERS, DeadLetters, Letter, LetterId
from shared.keys import PartitionKeys
from shared.log_protocol import LetterGone
from tests.support.log_server import Delivery, LogServer, RepeatingRedis

KEYS = PartitionKeys(0)
RACERS = 8
EVENT = ("kind", "event", "reason", "r", "at", "now", "entry", "1-1", "d", "x")
JOB = ("kind", "job", "j", "job_x", "h", "thr_x", "reason", "r", "at", "now")


async def only_letter(redis: Any) -> Letter:
    [letter] = [letter async for letter in DeadLetters(redis).letters(KEYS)]
    return letter


async def buried(server: LogServer) -> Delivery:
    """A delivered command of a job that waits, given up on."""
    await server.posted(await server.thread())
    delivery = await server.deliver()
    assert delivery is not None
    assert await DeadLetters(server.redis).move_command(KEYS, delivery.entry_id, "unreadable")
    return delivery


async def written(server: LogServer, *pairs: str | bytes) -> LetterId:
    """A letter as it is given."""
    entry_id = await server.redis.execute_command("XADD", KEYS.dead, "*", *pairs)
    return LetterId(0, entry_id.decode())


async def test_a_retried_command_is_the_command_of_its_job(server: LogServer) -> None:
    delivery = await buried(server)
    letter = await only_letter(server.redis)
    assert (letter.kind, letter.reason, letter.entry) == (
        "command",
        "unreadable",
        delivery.entry_id,
    )
    assert letter.job_id == delivery.command.job_id
    assert letter.thread_id == delivery.command.thread_id
    entry_id = await DeadLetters(server.redis).retry(letter.id)
    again = await server.deliver()
    assert again is not None
    assert (again.entry_id, again.command) == (entry_id, delivery.command)
    assert (await server.begin(again)).outcome == "BEGUN"
    assert await server.redis.xlen(KEYS.dead) == 0


async def test_a_job_that_has_another_command_keeps_it(server: LogServer) -> None:
    delivery = await buried(server)
    await server.redis.hset(KEYS.job(delivery.command.job_id), "entry", "1-1")
    await DeadLetters(server.redis).retry((await only_letter(server.redis)).id)
    again = await server.deliver()
    assert again is not None
    assert (await server.begin(again)).outcome == "ENDED"
    assert await server.redis.xlen(KEYS.commands) == 0


async def test_a_command_whose_job_is_over_ends_without_a_trace(server: LogServer) -> None:
    delivery = await buried(server)
    command = delivery.command
    assert await server.log.request_cancel(command.job_id, command.thread_id) == "cancelled"
    before = await server.records(command.thread_id)
    await DeadLetters(server.redis).retry((await only_letter(server.redis)).id)
    again = await server.deliver()
    assert again is not None
    assert (await server.begin(again)).outcome == "ENDED"
    assert await server.records(command.thread_id) == before
    assert await server.redis.xlen(KEYS.commands) == 0
    assert await server.redis.xlen(KEYS.dead) == 0


async def test_a_retried_event_is_in_the_log_to_the_letter(server: LogServer) -> None:
    fields: list[str | bytes] = ["d", b"\xff\x00", "kind", "job", "d", "twice", "entry", ""]
    entry_id = await server.redis.execute_command("XADD", KEYS.log, "*", *fields)
    await server.read_log(0, "p1", 10)
    assert await DeadLetters(server.redis).move_event(KEYS, entry_id.decode(), "no event")
    letter = await only_letter(server.redis)
    assert letter.kind == "event"
    assert await DeadLetters(server.redis).retry(letter.id)
    [[_, flat]] = await server.redis.execute_command(b"XRANGE", KEYS.log, "-", "+")
    assert flat == [part.encode() if isinstance(part, str) else part for part in fields]
    assert len(await server.read_log(0, "p1", 10)) == 1


async def test_a_letter_is_retried_once(server: LogServer, redis: RepeatingRedis) -> None:
    await buried(server)
    letter = await only_letter(redis)
    assert await DeadLetters(redis).retry(letter.id)
    for redis.repeats in (False, True):
        with pytest.raises(LetterGone):
            await DeadLetters(redis).retry(letter.id)
    assert await server.redis.xlen(KEYS.commands) == 1


@pytest.mark.parametrize("rounds", [5])
async def test_of_many_who_retry_one_does(server: LogServer, rounds: int) -> None:
    for _ in range(rounds):
        letter_id = await written(server, *EVENT)
        before = await server.redis.xlen(KEYS.log)
        tries = (DeadLetters(server.redis).retry(letter_id) for _ in range(RACERS))
        found = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(one, LetterGone) for one in found) == RACERS - 1
        assert await server.redis.xlen(KEYS.log) == before + 1


async def test_what_holds_no_entry_is_kept(server: LogServer) -> None:
    for text in (
        "kind job j job_x h thr_x reason r at now",
        "kind command j job_x h thr_x reason r at now d x",
        "kind event reason r at now entry 1-1",
        "kind gossip reason r at now entry 1-1 d x",
        "a b",
    ):
        letter_id = await written(server, *text.split())
        assert await DeadLetters(server.redis).retry(letter_id) is None
        assert await DeadLetters(server.redis).drop(letter_id)
    assert await server.redis.xlen(KEYS.log) + await server.redis.xlen(KEYS.commands) == 0


async def test_a_message_takes_a_letter_with_it(server: LogServer, redis: RepeatingRedis) -> None:
    letter_id = await written(server, *JOB)
    thread = await server.thread()
    for redis.repeats in (True, False):  # a lost reply is no second message, and no refusal
        command = server.command(thread)
        asking = redis.repeats
        accept = server.log.accept_job(
            command, on_busy="enqueue", queue_max=2, letter=letter_id.entry
        )
        if asking:
            assert (await accept).job_id == command.job_id
        else:
            with pytest.raises(LetterGone):
                await accept
    assert await server.history(thread) == ["thread.created", "message.posted"]
    assert await server.redis.xlen(KEYS.dead) == 0


async def test_letters_come_in_pages_and_end(server: LogServer) -> None:
    """Also when what is retried comes back at once."""
    letters, count = DeadLetters(server.redis), 2 * PAGE_LETTERS + 1
    for number in range(count):
        await written(server, *f"kind event reason {number} at now entry 1-1 d x".split())
    seen: list[str] = []
    async for letter in letters.letters(KEYS):
        seen.append(letter.reason)
        await letters.retry(letter.id)
        await written(server, *EVENT)
    assert seen == [str(number) for number in range(count)]
    assert await letters.drop_all(KEYS) == count
    assert await letters.drop_all(KEYS) == 0
