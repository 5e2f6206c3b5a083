"""What prelude.lua says by name is what Python says by name: asked of the real server."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from shared.codec import decode_event, encode, records_from_publish
from shared.events import Done
from shared.keys import PartitionKeys
from tests.support.log_server import AT, RepeatingRedis

NAMES = ("alice", "", "a:b", "{c}", "é", "x y")


async def ask(redis: RepeatingRedis, expression: str, *args: str) -> Any:
    """The value of a Lua expression behind the prelude."""
    prelude = (files("shared") / "scripts" / "prelude.lua").read_text()
    return await redis.eval(f"{prelude}\nreturn {expression}", 0, *args)


@pytest.mark.parametrize("partition", [0, 7, 255])
@pytest.mark.parametrize("name", NAMES)
async def test_keys(redis: RepeatingRedis, partition: int, name: str) -> None:
    keys = PartitionKeys(partition)
    same = {
        "job_key(ARGV[1], ARGV[2])": keys.job(name),
        "thread_key(ARGV[1], ARGV[2])": keys.thread(name),
        "events_key(thread_key(ARGV[1], ARGV[2]))": keys.thread_events(name),
        "dirty_key(ARGV[1], ARGV[2])": keys.dirty(name),
        "dead_key(ARGV[1])": keys.dead,
        "transitions_key(ARGV[1])": keys.transitions,
    }
    made = await ask(redis, f"{{{', '.join(same)}}}", keys.prefix, name)
    assert [key.decode() for key in made] == list(same.values())


def test_every_key_of_a_partition_is_in_one_slot() -> None:
    keys = PartitionKeys(3)
    names = [keys.commands, keys.log, keys.dead, keys.meta, keys.cancels, keys.transitions]
    names += [keys.thread("{a}"), keys.thread_events("{a}"), keys.thread_queue("{a}")]
    names += [keys.job("{a}"), keys.dirty("{a}"), keys.idempotency("{a}", "{b}")]
    assert len(set(names)) == len(names)
    for name in names:
        assert name.startswith("{hw:3}:")


async def test_the_done_of_a_job_nobody_began(redis: RepeatingRedis) -> None:
    """The same bytes as Python would write."""
    made = await ask(redis, "unbegun_done(ARGV[1], ARGV[2], ARGV[3])", "job_1", "msg_1", AT)
    event = Done(
        job_id="job_1",
        seq=1,
        attempt=0,
        at=AT,
        status="cancelled",
        content="",
        message_id="msg_1",
        latency_ms=0,
    )
    assert made == encode(event)
    assert decode_event(made) == event


async def test_a_line_of_the_channel(redis: RepeatingRedis) -> None:
    line = await ask(
        redis, "append('events', 'log', 'thr_1', 7, 'job_1', 3, 'token', ARGV[1])", '{"a": "b c"}'
    )
    [record] = records_from_publish(line)
    assert record == (7, "job_1", 3, "token", b'{"a": "b c"}')
    entries = await redis.xrange("events")
    assert [entry_id for entry_id, _ in entries or []] == [b"7-0"]
