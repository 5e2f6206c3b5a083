"""What tools answered: cut to the window, left out of later turns, and not asked for twice."""

from __future__ import annotations

import signal

import pytest

from services.orchestrator.toolbox import Arguments, Scope
from tests.integration.orchestrator.gateway import Gateway, kinds
from tests.integration.orchestrator.test_tools import CALLED, NOW, answered, caller, given, of
from tests.integration.orchestrator.workers import Bench

LEASE_SECONDS = 1.2


async def test_a_result_is_cut_to_the_window(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talk(arguments: Arguments, scope: Scope) -> str:
        return "word " * 100_000

    given(monkeypatch, run=talk)
    agent = caller(bench, NOW, max_tokens=100, context_tokens=900)
    events = await answered(bench, gateway, agent)
    [result] = of(events, "tool_result")
    assert 600 < len(result["content"]) < 3 * 900
    assert result["content"].endswith(" …")


async def test_later_questions_are_not_told_of_tools_but_of_what_was_said(
    bench: Bench, gateway: Gateway
) -> None:
    agent = caller(bench, NOW)
    async with bench.worker():
        first = await gateway.ask("when", agent=agent)
        said = (await gateway.done(first))[-1]["content"]
        second = await gateway.ask("and now", agent="echo", thread_id=first.thread_id)
        context = (await gateway.done(second))[-1]["content"]
    assert context == f"p\nwhen\n{said}\nand now"


@pytest.mark.faults
async def test_results_are_used_again_after_a_worker_was_killed(
    bench: Bench, gateway: Gateway
) -> None:
    """The time would be another one. Of two calls alike each gets its own result again."""
    model = "tokens=100,delay_ms=20"
    agent = caller(bench, NOW, ("now", {"timezone": "Asia/Seoul"}), NOW, more=model)
    async with bench.process(lease_seconds=LEASE_SECONDS) as worker:
        command = await gateway.ask(agent=agent)
        await gateway.saying(command, tokens=5)
        worker.send(signal.SIGKILL)
    async with bench.worker(lease_seconds=LEASE_SECONDS, consumer_name="w2"):
        events = await gateway.done(command)
    assert kinds(events) == ["started", *CALLED * 3, "token"] * 2 + ["done"]
    results = [(r["attempt"], r["content"]) for r in of(events, "tool_result")]
    first = [content for attempt, content in results if attempt == 1]
    assert first == [content for attempt, content in results if attempt == 2]


async def test_only_what_was_answered_is_used_again(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an error, and not what other arguments were answered; but each of two calls alike."""
    run = 0

    async def count(arguments: Arguments, scope: Scope) -> str:
        nonlocal run
        run += 1
        if run == 2:
            raise RuntimeError("once")
        return f"number {run}"

    given(monkeypatch, run=count)
    agent = caller(bench, NOW, NOW, NOW, more="cut_after=3,fault_round=1,times=2")
    async with bench.worker():
        events = await gateway.done(await gateway.ask(agent=agent))
    results = [(r["attempt"], r["content"]) for r in of(events, "tool_result")]
    failed = "error: the tool has failed"
    assert results[:3] == [(1, "number 1"), (1, failed), (1, "number 3")]
    assert results[3:] == [(2, "number 1"), (2, "number 4"), (2, "number 3")]
