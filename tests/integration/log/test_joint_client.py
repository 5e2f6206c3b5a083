"""Callers that share a connection: each gets its own replies, whatever happens to the others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest
import redis as blocking
from redis.exceptions import ConnectionError, ResponseError

from shared.errors import LogUnavailable
from shared.joint_client import JointRedis
from shared.joint_connection import JointConnection
from shared.keys import PartitionKeys
from shared.redis_client import HASTY, Patience, connect, translate
from tests.integration.orchestrator.waiting import until
from tests.support.bare_server import bare_server

CALLERS = 200
PATIENCE = Patience(3, 5.0, 5.0, 5.0, backoff_seconds_max=0.1)
AT_ONCE = Patience(0, 0.3, 0.3, 0.3)
META = PartitionKeys(0).meta


@pytest.fixture
async def client(redis_url: str) -> AsyncGenerator[Any]:
    async with connect(redis_url, patience=PATIENCE) as client:
        assert isinstance(client, JointRedis)
        yield client


def joint_of(client: Any) -> JointConnection:
    joint = cast("JointRedis", client)._joint
    assert joint is not None
    return joint


def connections(redis_url: str, command: str) -> list[dict[str, str]]:
    """Whose last command this was."""
    with blocking.Redis.from_url(redis_url) as observer:
        listed = cast("list[dict[str, str]]", observer.client_list())
    return [each for each in listed if each["cmd"] == command]


async def test_callers_share_a_connection_and_get_their_own_replies(
    client: Any, redis_url: str
) -> None:
    async def caller(number: int) -> None:
        text = f"caller {number}"
        assert await client.echo(text) == text.encode()
        pipeline = client.pipeline(transaction=False)
        for turn in range(number % 5):
            pipeline.echo(f"{text}, {turn}")
        assert await pipeline.execute() == [f"{text}, {n}".encode() for n in range(number % 5)]
        assert await client.echo(text) == text.encode()

    await asyncio.gather(*map(caller, range(CALLERS)))
    assert len(connections(redis_url, "echo")) == 1


async def test_what_is_cancelled_leaves_the_others_in_step(client: Any) -> None:
    dice = random.Random()

    async def caller(number: int) -> bytes:
        return await client.echo(str(number))

    await client.ping()
    callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
    await asyncio.sleep(0)  # each has asked
    for task in (cancelled := dice.sample(callers, CALLERS // 2)):
        task.cancel()
    replies = await asyncio.gather(*callers, return_exceptions=True)
    for number, (task, reply) in enumerate(zip(callers, replies, strict=True)):
        if task in cancelled:
            assert isinstance(reply, asyncio.CancelledError)
        else:
            assert reply == str(number).encode()


async def test_an_error_is_its_command_s_alone(client: Any) -> None:
    await client.set("{hw:0}:text", "no number")
    pipeline = client.pipeline(transaction=False)
    pipeline.echo("before").incr("{hw:0}:text").echo("behind")
    before, error, behind = await pipeline.execute(raise_on_error=False)
    assert (before, behind) == (b"before", b"behind")
    assert isinstance(error, ResponseError)
    with pytest.raises(ResponseError):
        await client.incr("{hw:0}:text")
    with pytest.raises(TypeError):
        await client.echo(object())
    assert await client.echo("still in step") == b"still in step"


async def test_a_lost_connection_is_made_again_and_looks_at_the_run(
    client: Any, redis_url: str
) -> None:
    await client.hset(META, mapping={"run": "another", "partitions": 1})
    assert await client.echo("open") == b"open"
    with blocking.Redis.from_url(redis_url) as admin:
        cast("Any", admin).client_kill_filter(_type="normal", skipme=True)
    told = await asyncio.gather(*(client.echo(str(number)) for number in range(CALLERS)))
    assert told == [str(number).encode() for number in range(CALLERS)]
    assert await client.hget(META, "run") != b"another", "nothing was asked of the new connection"


async def test_long_and_late_replies_keep_nobody_waiting(client: Any, redis_url: str) -> None:
    await client.xadd("{hw:0}:s", {"d": "1"})
    waiting = asyncio.create_task(client.xread({"{hw:0}:s": "$"}, block=60_000))

    async def is_waiting() -> bool:
        return bool(connections(redis_url, "xread"))

    await until(is_waiting, seconds=5)
    assert await client.echo("quick") == b"quick"
    assert not waiting.done()
    assert len(await client.xrange("{hw:0}:s")) == 1
    [[_, fields]] = await client.execute_command(b"XRANGE", "{hw:0}:s", "-", "+")
    assert fields == [b"d", b"1"], "named in bytes, it is told as it came"
    await client.xadd("{hw:0}:s", {"d": "2"})
    assert await waiting


async def test_too_many_who_wait_are_refused_and_nothing_is_sent(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.joint_connection.WAITING_MAX", 10)
    async with connect(redis_url, patience=AT_ONCE) as client:
        await client.ping()
        calls = [client.incr("{hw:0}:counted") for _ in range(CALLERS)]
        replies = await asyncio.gather(*cast("Any", calls), return_exceptions=True)
        taken = [reply for reply in replies if isinstance(reply, int)]
        assert all(isinstance(reply, ConnectionError) for reply in replies[len(taken) :])
        assert await client.get("{hw:0}:counted") == str(len(taken)).encode()
        assert len(taken) == 10


async def test_a_silent_server_is_given_up_and_found_again(tmp_path: Path) -> None:
    with bare_server(tmp_path) as server:
        async with connect(server.url, patience=AT_ONCE) as client:
            assert await client.ping()
            silent = joint_of(client)
            with server.paused():
                calls = [client.echo(str(number)) for number in range(CALLERS)]
                with translate():
                    replies = await asyncio.gather(*calls, return_exceptions=True)
                assert {type(reply).__name__ for reply in replies} == {"TimeoutError"}
            assert await client.echo("back") == b"back"
            assert joint_of(client) is not silent
            assert not silent.is_open


async def test_a_server_that_is_gone_is_away_and_found_again(tmp_path: Path) -> None:
    with bare_server(tmp_path) as server:
        async with connect(server.url, patience=HASTY) as client:
            assert await client.ping()
            server.end()
            with pytest.raises(LogUnavailable), translate():
                await client.echo("anybody there?")
            server.start()
            server.ready()
            assert await client.echo("back") == b"back"


async def test_who_takes_no_writes_any_more_is_left(tmp_path: Path) -> None:
    with bare_server(tmp_path) as server:
        async with connect(server.url, patience=AT_ONCE) as client:
            redis = cast("Any", client)
            assert await redis.set("{hw:0}:a", "1")
            demoted = joint_of(client)
            await redis.execute_command("REPLICAOF", "127.0.0.1", 1)
            with pytest.raises(LogUnavailable), translate():
                await redis.set("{hw:0}:a", "2")
            assert not demoted.is_open
            await redis.execute_command("REPLICAOF", "NO", "ONE")
            assert await redis.set("{hw:0}:a", "3")


async def test_replies_that_nobody_understands_end_the_connection() -> None:
    """Whoever answers there is no Redis."""

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        joint = JointConnection(_Driver(reader, writer), reply_seconds_max=5.0)
        with pytest.raises(ConnectionError):
            await asyncio.gather(joint.ask([("PING",)]), joint.ask([("PING",)]))
        assert not joint.is_open
        await joint.aclose()


class _Driver:
    """As the driver's connections are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def disconnect(self, nowait: bool) -> None:
        self._writer.close()
