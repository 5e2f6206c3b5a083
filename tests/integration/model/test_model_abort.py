"""Leaving a stream, at any moment and in any way, ends the work of the model at once."""

from __future__ import annotations

import asyncio
import itertools
import select
import socket
import time
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from services.orchestrator.model_limits import ModelLimits
from services.orchestrator.openai_compatible import OpenAICompatibleModel, open_session
from tests.support.asker import Answer, Asker, MakeAsker
from tests.support.model_server import ModelServer

ABORT_MS_MAX = 500.0  # measured: about 1 ms; the rest is for a busy machine
AWAITS_MAX = 100
AWAITS_MIN = 5  # connecting, headers, three tokens; more on some machines

PACED = "fake:tokens=100000,delay_ms=5"


async def assert_aborted_since(server: ModelServer, left_ms: float) -> None:
    await server.statistics.until(lambda seen: seen.aborted == 1 and seen.open_connections == 0)
    ended_ms = server.statistics.aborts[0].ended_ms
    assert ended_ms is not None
    assert ended_ms - left_ms < ABORT_MS_MAX


def now_ms() -> float:
    return time.monotonic() * 1000


async def test_leaving_early_is_seen_by_the_server(ask: Asker, server: ModelServer) -> None:
    async with ask.model.stream(ask.request(PACED)) as stream:
        await anext(stream)
    left_ms = now_ms()
    await assert_aborted_since(server, left_ms)


async def test_an_error_of_the_caller_is_seen_by_the_server(
    ask: Asker, server: ModelServer
) -> None:
    async def stumble() -> None:
        async with ask.model.stream(ask.request(PACED)) as stream:
            async for _ in stream:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await stumble()
    await assert_aborted_since(server, now_ms())


@pytest.mark.parametrize(
    "name",
    [
        "fake:slow_headers_ms=60000",
        "fake:hang_before_first",
        "fake:hang_after=3",
        PACED,
        "fake:tokens=100000,per_write=1",
    ],
)
async def test_a_cancelled_reader_is_seen_by_the_server(
    ask: Asker, server: ModelServer, name: str
) -> None:
    task = asyncio.create_task(ask(name))
    await server.statistics.until(lambda seen: seen.open_streams == 1)
    task.cancel()
    left_ms = now_ms()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_aborted_since(server, left_ms)


async def test_cancelling_a_backoff_asks_no_more(
    make_asker: MakeAsker, server: ModelServer
) -> None:
    patient = ModelLimits(tries_max=5, backoff_seconds_first=60.0, backoff_seconds_max=60.0)
    task = asyncio.create_task(make_asker(patient)("fake:status=500"))
    await server.statistics.until(lambda seen: seen.outcomes["refused"] == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.statistics.requests == 1
    await server.statistics.until(lambda seen: seen.open_connections == 0)


@asynccontextmanager
async def narrow_asker(server: ModelServer) -> AsyncGenerator[Asker]:
    """One connection and no more: a leaked one blocks every later question."""
    async with open_session(connections_max=1) as session:
        limits = ModelLimits(tries_max=1, connect_seconds=2.0)
        yield Asker(
            OpenAICompatibleModel(session, base_url=server.url, api_key=None, limits=limits)
        )


class CancelledAt:
    """Runs a coroutine, and cancels its task where it waits for the n-th time."""

    def __init__(self, waits: int, coroutine: Coroutine[object, None, Answer]) -> None:
        self._waits, self._coroutine = waits, coroutine

    def __await__(self) -> Generator[object, None, Answer]:
        task = asyncio.current_task()
        assert task is not None
        steps, step = itertools.count(1), partial(self._coroutine.send, None)
        while True:
            try:
                awaited = step()
            except StopIteration as end:
                return end.value
            if next(steps) == self._waits:
                task.cancel()
            try:
                yield awaited
                step = partial(self._coroutine.send, None)
            except asyncio.CancelledError as cancelled:
                step = partial(self._coroutine.throw, cancelled)


async def cancelled_at(waits: int, coroutine: Coroutine[object, None, Answer]) -> Answer:
    return await CancelledAt(waits, coroutine)


async def test_a_cancellation_at_any_await_leaves_nothing_open(server: ModelServer) -> None:
    """Cancel where the client waits first, then where it waits second, … until it waits no more."""
    for waits in range(1, AWAITS_MAX):
        async with narrow_asker(server) as ask:
            question = ask("fake:tokens=3,delay_ms=10,slow_headers_ms=5,end_ms=20")
            task = asyncio.create_task(cancelled_at(waits, question))
            await asyncio.wait([task])
            if not task.cancelled():
                break
            await server.statistics.until(lambda seen: seen.open_streams == 0)
            assert (await ask("fake:tokens=1")).text == "t1 "
            await server.statistics.until(lambda seen: seen.open_connections <= 1)
        await server.statistics.until(lambda seen: seen.open_connections == 0)
    else:
        pytest.fail("the answer never came")
    assert task.result().text == "t1 t2 t3 "
    assert waits >= AWAITS_MIN
    assert server.statistics.aborted > 0


async def test_a_server_that_does_not_even_read_is_left_at_once(make_asker: MakeAsker) -> None:
    """Closing would first write the request, which this server never takes."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        ask = make_asker(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}")
        task = asyncio.create_task(ask("any", prompt="word " * 4_000_000))
        deaf, _ = await loop.sock_accept(listening)
        with deaf:
            assert await until_full(deaf)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(was_reset, deaf)


async def until_full(deaf: socket.socket) -> bool:
    """Wait until no more bytes arrive: the client is stuck in the middle of its request."""
    arrived, before = 0, -1
    while arrived != before:
        await asyncio.sleep(0.02)
        before, arrived = arrived, len(deaf.recv(1 << 26, socket.MSG_PEEK))
    return arrived > 0


def was_reset(connection: socket.socket) -> bool:
    """Whether the peer resets the connection in time; a mere end of its data is none."""
    poll = select.poll()
    poll.register(connection, 0)  # errors and resets only
    return bool(poll.poll(ABORT_MS_MAX))
