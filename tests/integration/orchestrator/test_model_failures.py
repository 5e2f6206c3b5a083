"""A model that refuses, hangs or breaks off: what is tried again, and how a job then ends."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.integration.orchestrator.gateway import Event, Gateway, kinds, words
from tests.integration.orchestrator.workers import LIMITS, Bench, patient
from tests.support.model_server import ModelServer

IMPATIENT = replace(LIMITS, first_token_seconds=0.3, between_tokens_seconds=0.3, tries_max=1)


def reason(events: list[Event]) -> tuple[str, bool]:
    """Why a job failed, as its client is told."""
    error, done = events[-2:]
    assert (error["type"], done["type"], done["status"]) == ("error", "done", "failed")
    return error["code"], error["retryable"]


async def test_a_refusal_is_not_tried_again(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    bench.agent("default", "fake:status=401")
    async with bench.worker():
        events = await gateway.done(await gateway.ask("a secret of mine"))
    assert kinds(events) == ["started", "error", "done"]
    assert reason(events) == ("model_refused", False)
    assert "secret" not in events[-2]["message"]
    assert model.statistics.requests == 1
    assert await gateway.dead() == []


async def test_too_many_requests_are_asked_again_when_the_model_says(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    bench.agent("default", "fake:status=429,retry_after=1,times=1")
    async with bench.worker():
        since = time.monotonic()
        events = await gateway.done(await gateway.ask())
    assert time.monotonic() - since >= 1
    assert kinds(events) == ["started", "token", "done"]
    assert (events[-1]["status"], events[-1]["attempt"]) == ("done", 1)
    assert model.statistics.requests == 2


async def test_a_server_that_is_not_there_is_tried_again_and_told(
    bench: Bench, gateway: Gateway
) -> None:
    async with bench.worker(llm_base_url="http://127.0.0.1:1/v1"):
        events = await gateway.done(await gateway.ask())
    assert reason(events) == ("model_unreachable", True)


async def test_a_server_that_fails_for_a_moment_is_not_noticed(
    bench: Bench, gateway: Gateway
) -> None:
    bench.agent("default", "fake:status=500,times=2")
    async with bench.worker():
        events = await gateway.done(await gateway.ask())
    assert kinds(events) == ["started", "token", "done"]
    assert (events[-1]["status"], events[-1]["attempt"]) == ("done", 1)


async def test_silence_before_the_first_token_is_a_timeout(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    bench.agent("default", "fake:hang_before_first")
    async with bench.worker(limits=IMPATIENT):
        events = await gateway.done(await gateway.ask())
    assert kinds(events) == ["started", "error", "done"]
    assert reason(events) == ("model_timeout", True)
    await model.statistics.until(lambda seen: seen.open_streams == 0)


async def test_silence_behind_some_tokens_is_a_timeout_and_another_attempt(
    bench: Bench, gateway: Gateway
) -> None:
    bench.agent("default", "fake:hang_after=3,times=1")
    async with bench.worker(limits=IMPATIENT):
        events = await gateway.done(await gateway.ask())
    assert kinds(events) == ["started", "token", "started", "token", "done"]
    assert (events[-1]["status"], events[-1]["content"]) == ("done", words(1, 16))


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("cut_after=5", "model_interrupted"),
        ("half_json_after=5", "model_interrupted"),
        ("error_in_stream_after=5", "model_refused"),
        ("hang_after=5", "model_timeout"),
    ],
)
async def test_an_answer_that_breaks_off_each_time_fails_when_no_attempt_is_left(
    bench: Bench, gateway: Gateway, model: ModelServer, fault: str, code: str
) -> None:
    bench.agent("default", f"fake:{fault}")
    async with bench.worker(limits=IMPATIENT, attempts_max=2):
        command = await gateway.ask()
        events = await gateway.done(command)
    assert kinds(events) == ["started", "token", "started", "token", "error", "done"]
    assert reason(events) == (code, True)
    assert (events[-1]["attempt"], events[-1]["content"]) == (2, words(1, 5))
    assert model.statistics.requests == 2
    [letter] = await gateway.dead()
    assert (letter[b"j"].decode(), letter[b"reason"].decode()) == (command.job_id, code)


async def test_an_answer_that_breaks_off_once_begins_again_in_the_same_worker(
    bench: Bench, gateway: Gateway
) -> None:
    bench.agent("default", "fake:cut_after=5,times=1")
    async with bench.worker(lease_seconds=30):
        events = await gateway.done(await gateway.ask())
    assert kinds(events) == ["started", "token", "started", "token", "done"]
    assert (events[-1]["attempt"], events[-1]["content"]) == (2, words(1, 16))
    assert events[-1]["usage"]["completion_tokens"] == 16


async def test_an_attempt_beyond_the_jobs_deadline_fails_with_what_it_has_said(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    bench.agent("default", "fake:hang_after=4")
    async with bench.worker(limits=patient(LIMITS), job_deadline_seconds=0.5):
        events = await gateway.done(await gateway.ask())
    assert kinds(events) == ["started", "token", "error", "done"]
    assert reason(events) == ("job_deadline", False)
    assert events[-1]["content"] == words(1, 4)
    await model.statistics.until(lambda seen: seen.aborted == 1)


async def test_a_thread_goes_on_behind_a_failure(bench: Bench, gateway: Gateway) -> None:
    bench.agent("broken", "fake:status=401")
    async with bench.worker():
        first = await gateway.ask(agent="broken")
        second = await gateway.ask(thread_id=first.thread_id)
        assert (await gateway.done(second))[-1]["status"] == "done"
