"""The scripted server itself: what it counts, and how it runs as a process."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import orjson
import pytest

from services.orchestrator.model import ModelRefused
from services.orchestrator.openai_compatible import open_session
from tests.support import model_script
from tests.support.asker import Asker, MakeAsker
from tests.support.model_server import ModelServer
from tests.support.model_statistics import RECORDS_MAX, Statistics


async def test_it_counts_what_it_did(ask: Asker, server: ModelServer) -> None:
    await ask("fake:tokens=7")
    async with ask.model.stream(ask.request("fake:tokens=9,hang_after=2")) as stream:
        await anext(stream)
    await server.statistics.until(lambda seen: seen.aborted == 1)
    async with open_session(connections_max=1) as session:
        async with session.get(f"{server.origin}/stats") as response:
            stats = await response.json()
        async with session.post(f"{server.origin}/reset") as response:
            assert response.status == 200
    assert (stats["requests"], stats["completed"], stats["aborted"]) == (2, 1, 1)
    assert (stats["tokens"], stats["open_streams"]) == (9, 0)
    whole, left = stats["records"]
    assert (whole["model"], whole["tokens"], whole["outcome"]) == ("fake:tokens=7", 7, "completed")
    assert stats["aborts"] == [left]
    assert left["started_ms"] <= left["ended_ms"] <= time.monotonic() * 1000
    assert abs(left["wall_ended_ms"] - time.time() * 1000) < 60_000
    assert server.statistics.requests == 0


def test_its_records_are_bounded() -> None:
    statistics = Statistics()
    for _ in range(RECORDS_MAX + 5):
        statistics.end(statistics.begin("fake"), "completed")
    assert (len(statistics.records), statistics.completed) == (RECORDS_MAX, RECORDS_MAX + 5)


async def test_faults_end_after_so_many_times(make_asker: MakeAsker) -> None:
    ask = make_asker()
    for _ in range(2):
        with pytest.raises(ModelRefused):
            await ask("fake:status=429,retry_after=1,times=2")
    assert (await ask("fake:status=429,retry_after=1,times=2")).text.startswith("t1 ")


async def test_a_mistyped_option_is_refused(ask: Asker) -> None:
    with pytest.raises(ModelRefused) as caught:
        await ask("fake:tokns=3")
    assert caught.value.status == 400
    assert caught.value.detail == "no such option: tokns"


async def test_tokens_come_at_their_pace(ask: Asker) -> None:
    started = time.monotonic()
    await ask("fake:tokens=10,delay_ms=20")
    assert 0.19 <= time.monotonic() - started < 2


def test_other_names_are_plain() -> None:
    assert model_script.parse("gpt-4o:mini") == model_script.Script()


async def test_it_is_a_program() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.model_server", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        facts = orjson.loads(await asyncio.wait_for(process.stdout.readline(), 10))
        async with open_session(connections_max=1) as session:
            async with session.get(f"{facts['url']}/models") as response:
                assert response.status == 200
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_stamped_token_is_the_moment_it_was_sent(ask: Asker) -> None:
    began = time.monotonic_ns() // 1000
    answer = await ask("fake:tokens=3,delay_ms=20,stamped")
    took = time.monotonic_ns() // 1000 - began
    sent = [(int(stamp) - began) % model_script.STAMPS for stamp in answer.text.split()]
    due = (20_000, 40_000, 60_000)
    assert all(0.9 * at <= moment <= took for at, moment in zip(due, sent, strict=True))
