"""Tools: called, told of in order, bounded, and whatever goes wrong with them is no job's end."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime
from typing import Any

import pytest

from services.orchestrator.graph.generating import TOOL_ROUNDS_MAX, USES_PER_ROUND_MAX
from services.orchestrator.toolbox import Arguments, Scope, Tool
from services.orchestrator.tools import TOOLS
from tests.integration.orchestrator.gateway import Event, Gateway, kinds, words
from tests.integration.orchestrator.workers import Bench
from tests.support.model_calls import calls
from tests.support.model_server import ModelServer

BLOCK_SECONDS_MAX = 4.0
WAIT_SECONDS_MAX = 5.0
NOW: Any = ("now", {})
CALLED = ["tool_call", "tool_result"]


def caller(bench: Bench, *wanted: tuple[str, object], more: str = "tokens=4", **fields: Any) -> str:
    """An agent whose model asks for these tools."""
    model = f"fake:call={calls(*wanted)},{more}"
    tools = {"tools": ("search_messages", "search_files", "now"), **fields}
    bench.agent("caller", model, **tools)
    return "caller"


def given(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let the tool `now` be another."""
    tool: Tool[Any] = Tool("Waits.", Arguments, **changes)
    monkeypatch.setattr("services.orchestrator.answering.TOOLS", {**TOOLS, "now": tool})


def of(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["type"] == kind]


async def answered(bench: Bench, gateway: Gateway, agent: str) -> list[Event]:
    async with bench.worker():
        return await gateway.done(await gateway.ask(agent=agent))


async def test_a_tool_is_called_and_its_result_goes_to_the_model(
    bench: Bench, gateway: Gateway
) -> None:
    agent = caller(bench, ("now", {"timezone": "Asia/Seoul"}), more="echo", system_prompt="p")
    async with bench.worker():
        events = await gateway.done(await gateway.ask(agent=agent))
    assert kinds(events) == ["started", *CALLED, "token", "done"]
    [call], [result] = of(events, "tool_call"), of(events, "tool_result")
    assert (call["name"], call["arguments"]) == ("now", {"timezone": "Asia/Seoul"})
    assert call["tool_call_id"] == result["tool_call_id"] == "call_0_0"
    said, weekday = result["content"].split()
    assert (
        datetime.fromisoformat(said).utcoffset()
        == datetime.fromisoformat("2026-01-01T00:00:00+09:00").utcoffset()
    )
    assert weekday == f"{datetime.fromisoformat(said):%A}"
    assert events[-1]["content"] == f"p\nhello\n\n{result['content']}", "the model echoes it"


async def test_text_around_tools_is_one_answer_and_usage_is_that_of_all_rounds(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    events = await answered(
        bench, gateway, caller(bench, NOW, NOW, more="call_rounds=2,call_after=2,tokens=3")
    )
    assert kinds(events) == [
        "started", "token", *CALLED, *CALLED, "token", *CALLED, *CALLED, "token", "done"
    ]  # fmt: skip
    done = events[-1]
    assert done["content"] == f"{words(1, 2)}\n\n{words(1, 2)}\n\n{words(1, 3)}"
    assert done["usage"]["completion_tokens"] == 2 + 2 + 3
    ids = [event["tool_call_id"] for event in of(events, "tool_call")]
    assert len(set(ids)) == 4
    assert ids == [event["tool_call_id"] for event in of(events, "tool_result")]
    assert model.statistics.requests == 3


@pytest.mark.parametrize("shape", ["no_id", "bare", "same_index", "object"])
async def test_calls_of_odd_shapes_are_told_apart(
    bench: Bench, gateway: Gateway, shape: str
) -> None:
    wanted = [("now", {"timezone": "Asia/Tokyo"}), ("now", {})]
    more = f"call_shape={shape},call_rounds=2,tokens=1"
    events = await answered(bench, gateway, caller(bench, *wanted, more=more))
    told = [(event["name"], event["arguments"]) for event in of(events, "tool_call")]
    assert told == [*wanted, *wanted]
    assert len({event["tool_call_id"] for event in of(events, "tool_call")}) == 4
    assert not any(event["is_error"] for event in of(events, "tool_result"))


async def test_what_cannot_be_called_is_told_to_the_model_and_the_job_goes_on(
    bench: Bench, gateway: Gateway
) -> None:
    wanted = [
        ("now", '{"timezone": '),
        ("now", '["UTC"]'),
        ("now", {"zone": "UTC"}),
        ("now", {"timezone": "Mars/Olympus"}),
        ("now", {"timezone": "../../etc/passwd"}),
        ("search_messages", {"query": ""}),
        ("launch", {}),
    ]
    events = await answered(bench, gateway, caller(bench, *wanted))
    results = of(events, "tool_result")
    assert all(result["is_error"] for result in results)
    assert [result["content"] for result in results] == [
        "error: the arguments are not a JSON object",
        "error: the arguments are not a JSON object",
        "error: zone: Extra inputs are not permitted",
        "error: there is no time zone of that name",
        "error: there is no time zone of that name",
        "error: query: String should have at least 1 character",
        "error: there is no such tool; there are: search_messages, search_files, now",
    ]
    assert [call["arguments"] for call in of(events, "tool_call")][:2] == [{}, {}]
    assert events[-1]["status"] == "done"
    assert events[-1]["content"] == words(1, 4)


async def test_a_tool_that_fails_has_an_error_for_a_result(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(arguments: Arguments, scope: Scope) -> str:
        raise RuntimeError("inside")

    given(monkeypatch, run=fail)
    events = await answered(bench, gateway, caller(bench, NOW))
    [result] = of(events, "tool_result")
    assert (result["is_error"], result["content"]) == (True, "error: the tool has failed")
    assert events[-1]["status"] == "done"


async def test_a_tool_without_its_store_is_not_available(bench: Bench, gateway: Gateway) -> None:
    events = await answered(bench, gateway, caller(bench, ("search_messages", {"query": "river"})))
    [result] = of(events, "tool_result")
    assert result["content"] == "error: the tool is not available at the moment"
    assert events[-1]["status"] == "done"


async def test_a_tool_that_does_not_answer_is_left(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(arguments: Arguments, scope: Scope) -> str:
        await asyncio.Event().wait()
        return ""

    given(monkeypatch, run=wait, seconds_max=0.2)
    events = await answered(bench, gateway, caller(bench, NOW))
    [result] = of(events, "tool_result")
    assert (result["is_error"], result["content"]) == (
        True,
        "error: the tool did not answer within 0.2 s",
    )
    assert events[-1]["status"] == "done"


async def test_a_tool_that_blocks_holds_nobody_up(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job is answered meanwhile."""
    begun, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def block(arguments: Arguments, scope: Scope) -> str:
        loop.call_soon_threadsafe(begun.set)
        return "released" if release.wait(BLOCK_SECONDS_MAX) else "waited in vain"

    given(monkeypatch, block=block)
    agent = caller(bench, NOW)
    async with bench.worker():
        command = await gateway.ask(agent=agent)
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await begun.wait()
        other = await gateway.done(await gateway.ask())
        release.set()
        events = await gateway.done(command)
    assert other[-1]["status"] == "done"
    assert [result["content"] for result in of(events, "tool_result")] == ["released"]


async def test_a_tool_that_blocks_for_ever_is_left(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def block(arguments: Arguments, scope: Scope) -> str:
        release.wait()
        return ""

    given(monkeypatch, block=block, seconds_max=0.2)
    try:
        events = await answered(bench, gateway, caller(bench, NOW))
    finally:
        release.set()
    assert of(events, "tool_result")[0]["is_error"]
    assert events[-1]["status"] == "done"


async def test_a_cancel_while_a_tool_runs_ends_the_job_with_what_it_has_said(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def wait(arguments: Arguments, scope: Scope) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return ""

    given(monkeypatch, run=wait)
    agent = caller(bench, NOW, more="call_after=3")
    async with bench.worker():
        command = await gateway.ask(agent=agent)
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await begun.wait()
        await gateway.cancel(command)
        events = await gateway.done(command)
        assert left.is_set()
    assert kinds(events) == ["started", "token", "tool_call", "done"]
    assert (events[-1]["status"], events[-1]["content"]) == ("cancelled", words(1, 3))


async def test_a_model_that_asks_for_ever_must_answer_in_the_end(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    events = await answered(bench, gateway, caller(bench, NOW, more="call_rounds=-1,tokens=2"))
    assert len(of(events, "tool_call")) == TOOL_ROUNDS_MAX
    assert model.statistics.requests == TOOL_ROUNDS_MAX + 1
    assert (events[-1]["finish_reason"], events[-1]["content"]) == ("stop", words(1, 2))


async def test_a_model_that_will_not_answer_is_asked_no_more(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    more = "call_rounds=-1,call_after=1,stubborn"
    events = await answered(bench, gateway, caller(bench, NOW, more=more))
    assert model.statistics.requests == TOOL_ROUNDS_MAX + 1
    assert (events[-1]["status"], events[-1]["finish_reason"]) == ("done", "tool_rounds")
    assert events[-1]["content"] == "\n\n".join([words(1, 1)] * (TOOL_ROUNDS_MAX + 1))


async def test_too_many_calls_at_once_are_not_made(bench: Bench, gateway: Gateway) -> None:
    events = await answered(bench, gateway, caller(bench, *[NOW] * (USES_PER_ROUND_MAX + 1)))
    errors = [result["is_error"] for result in of(events, "tool_result")]
    assert errors == [False] * USES_PER_ROUND_MAX + [True]


async def test_an_agent_without_tools_has_none(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    """Also if the model asks nevertheless: that is an end like any other."""
    agent = caller(bench, NOW, more="stubborn,call_after=2", tools=())
    events = await answered(bench, gateway, agent)
    assert kinds(events) == ["started", "token", "done"]
    assert (events[-1]["status"], events[-1]["content"]) == ("done", words(1, 2))
    assert model.statistics.requests == 1
