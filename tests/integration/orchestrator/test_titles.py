"""Threads named by the model: after an answer, beside the work, and only without a name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.orchestrator.model import Model, ModelRequest, ModelStream
from services.orchestrator.openai_compatible import OpenAICompatibleModel, open_session
from services.orchestrator.titles import PROMPT, TITLE_CHARS_MAX, title_of
from shared.commands import RunJob
from shared.events import ThreadUpdated
from shared.thread_log import ThreadLog
from shared.times import utc_now
from tests.integration.orchestrator.gateway import USER, Gateway, kinds
from tests.integration.orchestrator.models import Listening, Scripted
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import LIMITS, Bench
from tests.support.model_server import ModelServer

WAIT_SECONDS_MAX = 10.0


class NeverNames:
    """Answers, and thinks about names for ever."""

    def __init__(self, model: Model) -> None:
        self._model, self.asked = model, asyncio.Event()

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelStream]:
        if request.messages[0].content == PROMPT:
            self.asked.set()
            await asyncio.Event().wait()
        async with self._model.stream(request) as stream:
            yield stream


async def title(gateway: Gateway, command: RunJob) -> str | None:
    thread = await gateway.hot.thread(command.thread_id)
    assert thread is not None
    return thread.title


async def named(gateway: Gateway, command: RunJob) -> None:
    async def has_title() -> bool:
        return await title(gateway, command) is not None

    await until(has_title)


def threads_of(gateway: Gateway) -> ThreadLog:
    return ThreadLog(gateway.redis, gateway.partitions, idle_ttl_seconds=600)


async def test_a_thread_is_named_after_its_first_answer(bench: Bench, gateway: Gateway) -> None:
    bench.agent("namer", "fake:tokens=3", titles=True)
    async with bench.worker():
        command = await gateway.ask(agent="namer")
        await named(gateway, command)
        assert await title(gateway, command) == "t1 t2 t3"
        second = await gateway.ask(agent="namer", thread_id=command.thread_id)
        await gateway.done(second)
    records = await gateway.records(command.thread_id)
    assert [record.type for record in records].count("thread.updated") == 1
    assert kinds(await gateway.done(command)) == ["started", "token", "done"]


async def test_agents_that_are_not_told_to_name_nothing(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    async with open_session(connections_max=2) as session:
        asked = Listening(
            OpenAICompatibleModel(session, base_url=model.url, api_key=None, limits=LIMITS)
        )
        async with bench.worker(model=asked):
            command = await gateway.ask()
            await gateway.done(command)
            await gateway.done(await gateway.ask(thread_id=command.thread_id))
    assert await title(gateway, command) is None
    assert len(asked.requests) == 2


async def test_a_title_that_was_given_stays(bench: Bench, gateway: Gateway) -> None:
    """Also one that is given while the model thinks."""
    bench.agent("namer", "fake:tokens=3,delay_ms=200", titles=True)
    async with bench.worker():
        command = await gateway.ask(agent="namer")
        await gateway.done(command)
        event = ThreadUpdated(thread_id=command.thread_id, at=utc_now(), title="mine")
        await threads_of(gateway).change_thread(USER, event)
        model_name = event.model_copy(update={"title": "the model's"})
        await threads_of(gateway).name_thread(USER, model_name)
        other = await gateway.ask(agent="namer")
        await named(gateway, other)
    assert await title(gateway, command) == "mine"


async def test_nobody_waits_for_a_title(bench: Bench, gateway: Gateway) -> None:
    """Neither the next job of the thread nor the end of the worker."""
    bench.agent("namer", "m", titles=True)
    model = NeverNames(Scripted(["hi"]))
    async with bench.worker(model=model, drain_seconds=30) as worker:
        first = await gateway.ask(agent="namer")
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await model.asked.wait()
        assert (await gateway.job(first)).status == "done"
        await gateway.done(await gateway.ask(agent="namer", thread_id=first.thread_id))
        begun = time.monotonic()
        await worker.drain()
        assert time.monotonic() - begun < WAIT_SECONDS_MAX
    assert await title(gateway, first) is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('"A walk by the river."', "A walk by the river"),
        ("\n  **Reise nach  São Paulo** \nmore", "Reise nach São Paulo"),
        ("Title: Rain", "Rain"),
        ("\u0007\n\t\n", ""),
        ("", ""),
        ("강가의 산책", "강가의 산책"),
        ("x" * 500, "x" * TITLE_CHARS_MAX),
    ],
)
def test_what_a_model_says_becomes_a_title(said: str, expected: Any) -> None:
    assert title_of(said) == expected
