"""Threads that outgrow the model: summed up once, and again only when that has become wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import select

from services.orchestrator.archived_summaries import is_void
from services.orchestrator.graph.context_window import estimate_tokens
from services.orchestrator.graph.prompt import SUMMARY_HEAD
from services.orchestrator.model import Model, ModelRequest
from services.orchestrator.openai_compatible import OpenAICompatibleModel, open_session
from shared.archive import Archive
from shared.commands import RunJob
from shared.postgres import create_engine
from shared.read_model import events as archived_events
from shared.summaries import Summary
from tests.integration.orchestrator.gateway import Event, Gateway, kinds, words
from tests.integration.orchestrator.models import (
    BreaksOff,
    Listening,
    RefusesSummaries,
    is_for_summary,
)
from tests.integration.orchestrator.test_threads import archive_all, cut
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import LIMITS, Bench
from tests.support.model_server import ModelServer

WINDOW, ANSWER = 700, 100
SUMMARY = words(1, 9).strip()


@pytest.fixture(autouse=True)
def _agents(bench: Bench) -> None:
    window: dict[str, Any] = {"max_tokens": ANSWER, "context_tokens": WINDOW}
    window |= {"system_prompt": "p", "retrieval": False}
    bench.agent("small", "fake:tokens=9", **window)
    bench.agent("slow", "fake:tokens=9,delay_ms=100", **window)


@asynccontextmanager
async def listening(model: ModelServer) -> AsyncGenerator[Listening]:
    async with open_session(connections_max=4) as session:
        url = model.url
        yield Listening(OpenAICompatibleModel(session, base_url=url, api_key=None, limits=LIMITS))


async def told(gateway: Gateway, count: int, *, thread: str, first: int = 1) -> list[RunJob]:
    """Questions that are answered, each of about 80 tokens."""
    commands: list[RunJob] = []
    for number in range(first, first + count):
        question = f"question {number} " + "about the river " * 14
        commands.append(await asked(gateway, question, thread))
    return commands


async def asked(
    gateway: Gateway, question: str, thread: str, agent: str = "small", **fields: Any
) -> RunJob:
    command = await gateway.ask(question, agent=agent, thread_id=thread, **fields)

    async def is_over() -> bool:
        return (await gateway.job(command)).is_over

    await until(is_over)
    return command


async def summaries(gateway: Gateway, command: RunJob) -> list[Event]:
    return [e for e in await gateway.events(command) if e["type"] == "summarized"]


def numbers(request: ModelRequest) -> list[int]:
    """Which questions the model is shown whole."""
    questions = [m.content for m in request.messages if m.role == "user"]
    return [int(text.split()[1]) for text in questions if text.startswith("question")]


def shows_summary(request: ModelRequest) -> bool:
    return f"{SUMMARY_HEAD}\n{SUMMARY}" in request.messages[0].content


async def position_of(gateway: Gateway, command: RunJob) -> int:
    return (await gateway.job(command)).first


async def test_a_thread_is_summed_up_once_in_a_while_and_nothing_is_lost(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    thread = gateway.thread_in(0)
    async with listening(model) as asked_for, bench.worker(model=asked_for):
        commands = await told(gateway, 14, thread=thread)
    made = [(command, await summaries(gateway, command)) for command in commands]
    positions = {await position_of(gateway, command): n for n, command in enumerate(commands, 1)}
    upto, summed_up = 0, 0
    answers = [request for request in asked_for.requests if not is_for_summary(request)]
    for number, (request, (_, events)) in enumerate(zip(answers, made, strict=True), 1):
        for event in events:
            assert event["content"] == SUMMARY
            upto, summed_up = positions[event["upto"]], summed_up + 1
        assert numbers(request) == list(range(upto + 1, number + 1)), "all that is not summed up"
        assert shows_summary(request) == bool(upto)
        assert sum(estimate_tokens(m.content) for m in request.messages) <= WINDOW - ANSWER
    assert 2 <= summed_up <= 5, "not for each question that finds the window full"
    assert len(asked_for.requests) == len(answers) + summed_up
    events = await gateway.done(next(command for command, found in made if found))
    assert kinds(events) == ["started", "summarized", "token", "done"]
    assert events[-1]["usage"]["completion_tokens"] == 9, "of the answer alone"
    assert events[1]["usage"]["completion_tokens"] == 9


async def test_the_next_summary_goes_on_from_the_last(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    async with listening(model) as asked_for, bench.worker(model=asked_for):
        await told(gateway, 12, thread=gateway.thread_in(0))
    first, second, *_ = filter(is_for_summary, asked_for.requests)
    assert "Summary so far" not in first.messages[1].content
    assert second.messages[1].content.startswith(f"Summary so far: {SUMMARY}\n\nUser: question")
    assert "question 1 " in first.messages[1].content
    assert "question 1 " not in second.messages[1].content


async def test_the_next_attempt_uses_the_summary_of_the_one_before(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    thread = gateway.thread_in(0)
    async with bench.worker(llm_context_tokens=100_000):
        for number in range(1, 9):
            long = f"question {number} " + "about the river " * 14
            await asked(gateway, long, thread, agent="default")
    async with listening(model) as asked_for:
        breaking: Model = BreaksOff(asked_for)
        async with bench.worker(model=breaking):
            command = await asked(gateway, "question 9", thread)
    events = await gateway.done(command)
    assert kinds(events) == ["started", "summarized", "token", "started", "token", "done"]
    assert len([r for r in asked_for.requests if is_for_summary(r)]) == 1
    assert shows_summary(asked_for.requests[-1])


async def test_a_summary_is_read_from_the_archive(
    bench: Bench, gateway: Gateway, model: ModelServer, database_url: str
) -> None:
    thread = gateway.thread_in(0)
    settings = bench.settings(database_url=database_url)
    async with (
        listening(model) as asked_for,
        bench.worker(model=asked_for, database_url=database_url),
    ):
        await told(gateway, 8, thread=thread)
        await archive_all(settings, gateway, thread)
        await cut(gateway, thread)
        before = len(asked_for.requests)
        await asked(gateway, "question 9", thread)
    [request] = asked_for.requests[before:]
    assert shows_summary(request)
    assert numbers(request)[-2:] == [8, 9]


async def postgres_voids(database_url: str, thread: str) -> bool:
    """The first summary: by what is archived alone."""
    engine = create_engine(database_url, application="test")
    try:
        archive = Archive(engine)
        statement = select(archived_events.c.data).where(
            archived_events.c.thread_id == thread, archived_events.c.type == "summarized"
        )
        data: Any = min(await archive.rows(statement), key=lambda row: row.data["upto"]).data
        summary = Summary(data["content"], data["upto"], data["as_of"])
        return await is_void(archive, thread, summary, before=10_000)
    finally:
        await engine.dispose()


@pytest.mark.parametrize("change", ["deleted", "replaced", "nothing"])
@pytest.mark.parametrize("archived", ["nothing", "summary", "all"])
async def test_a_summary_of_what_has_changed_is_void(
    bench: Bench,
    gateway: Gateway,
    model: ModelServer,
    database_url: str,
    change: str,
    archived: str,
) -> None:
    """Wherever the change is told of: in Redis, or in Postgres."""
    thread = gateway.thread_in(0)
    settings = bench.settings(database_url=database_url)
    async with (
        listening(model) as asked_for,
        bench.worker(model=asked_for, database_url=database_url),
    ):
        commands = await told(gateway, 8, thread=thread)
        if archived != "nothing":
            await archive_all(settings, gateway, thread)
            await cut(gateway, thread)
        first = commands[1]
        replaces = (first.message_id, await position_of(gateway, first))
        if change == "deleted":
            await gateway.delete(first)
        if change == "replaced":
            await asked(gateway, "question 22", thread, replaces=replaces)
        if archived == "all":
            await archive_all(settings, gateway, thread)
            await cut(gateway, thread)
        before = len(asked_for.requests)
        await asked(gateway, "question 9", thread)
    new = asked_for.requests[before:]
    expected = {"deleted": 1, "replaced": 0, "nothing": 0}[change]
    assert len([request for request in new if is_for_summary(request)]) == expected
    assert not any("question 2 " in m.content for r in new for m in r.messages)
    assert shows_summary(new[-1]) == (change != "replaced")
    if change == "replaced":
        assert numbers(new[-1]) == [1, 22, 9]
    if archived == "all":
        assert await postgres_voids(database_url, thread) == (change != "nothing")
    if change == "deleted":
        assert "question 1 " in new[0].messages[1].content


async def test_what_cannot_be_summed_up_is_left_out(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    thread = gateway.thread_in(0)
    async with listening(model) as asked_for:
        async with bench.worker(model=RefusesSummaries(asked_for)):
            commands = await told(gateway, 9, thread=thread)
        shown = numbers(asked_for.requests[-1])
        assert shown == list(range(shown[0], 10)), "as many of the newest as there is room for"
        assert 3 < len(shown) < 9
        assert [kinds(await gateway.done(each)) for each in commands] == [
            ["started", "token", "done"]
        ] * 9
        async with bench.worker(model=asked_for):
            last = await asked(gateway, "question 10", thread)
    assert len(await summaries(gateway, last)) == 1, "the next job has tried again"


async def test_a_slow_summary_is_not_waited_for(
    bench: Bench, gateway: Gateway, model: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.orchestrator.summaries.SUMMARY_SECONDS_MAX", 0.3)
    thread = gateway.thread_in(0)
    async with bench.worker(llm_context_tokens=100_000):
        for number in range(1, 9):
            long = f"question {number} " + "about the river " * 14
            await asked(gateway, long, thread, agent="default")
    async with listening(model) as asked_for, bench.worker(model=asked_for):
        command = await asked(gateway, "question 9", thread, agent="slow")
        events = await gateway.done(command)
        assert kinds(events) == ["started", "token", "done"]
        assert numbers(asked_for.requests[-1])[-2:] == [8, 9]
        await asked(gateway, "question 10", thread)
    assert shows_summary(asked_for.requests[-1]), "the next job has tried again"


async def test_a_small_window_has_no_room_for_a_summary(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    bench.agent("tiny", "fake:tokens=9", system_prompt="p", max_tokens=60, context_tokens=240)
    thread = gateway.thread_in(0)
    async with listening(model) as asked_for, bench.worker(model=asked_for):
        for number in range(1, 4):
            long = f"question {number} " + "about the river " * 14
            await asked(gateway, long, thread, agent="tiny")
    assert [numbers(request) for request in asked_for.requests] == [[1], [2], [3]]


async def test_a_summary_is_made_in_the_agents_own_thread_while_others_wait_for_none(
    bench: Bench, gateway: Gateway
) -> None:
    """A summary takes the time of its own job alone."""
    thread = gateway.thread_in(0)
    async with bench.worker(llm_context_tokens=100_000):
        for number in range(1, 9):
            long = f"question {number} " + "about the river " * 14
            await asked(gateway, long, thread, agent="default")
        waiting = await gateway.ask("question 9", agent="slow", thread_id=thread)
        async with asyncio.timeout(5):
            other = await gateway.done(await gateway.ask())
        assert other[-1]["status"] == "done"
        assert kinds(await gateway.done(waiting)) == ["started", "summarized", "token", "done"]
