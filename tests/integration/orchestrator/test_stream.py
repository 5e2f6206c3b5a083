"""One job from its command to its ``done``: what a client gets to see of it."""

from __future__ import annotations

import asyncio

from services.orchestrator.openai_compatible import OpenAICompatibleModel, open_session
from tests.integration.orchestrator.gateway import Gateway, deltas, kinds, words
from tests.integration.orchestrator.models import Listening, Scripted
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import LIMITS, Bench, proxy_to
from tests.support.model_server import ModelServer


async def test_a_job_is_started_answered_and_done(bench: Bench, gateway: Gateway) -> None:
    async with bench.worker():
        command = await gateway.ask("how are you?")
        events = await gateway.done(command)
    assert kinds(events) == ["started", "token", "done"]
    started, done = events[0], events[-1]
    assert (started["attempt"], started["agent"]) == (1, "default")
    assert started["model"] == "fake:tokens=20"
    assert (done["status"], done["content"]) == ("done", words(1, 20))
    assert done["finish_reason"] == "stop"
    assert done["usage"]["completion_tokens"] == 20
    assert 0 <= done["latency_ms"] < 10_000
    assert deltas(events, 1) == 20
    assert await gateway.pending() == 0
    assert (await gateway.job(command)).status == "done"


async def test_an_agents_prompt_model_and_parameters_reach_the_model(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    sea = {"temperature": 0.25, "max_tokens": 99, "parameters": {"top_p": 0.5}}
    bench.agent("poet", "fake:echo", system_prompt="Speak in rhymes.", **sea)
    async with open_session(connections_max=1) as session:
        asked = Listening(
            OpenAICompatibleModel(session, base_url=model.url, api_key=None, limits=LIMITS)
        )
        async with bench.worker(model=asked):
            events = await gateway.done(await gateway.ask("of the sea", agent="poet"))
    assert (events[0]["agent"], events[0]["model"]) == ("poet", "fake:echo")
    assert events[-1]["content"] == "Speak in rhymes.\nof the sea"
    [request] = asked.requests
    assert (request.model, request.temperature, request.max_tokens) == ("fake:echo", 0.25, 99)
    assert request.parameters == {"top_p": 0.5}


async def test_the_first_agent_answers_for_one_that_is_gone(bench: Bench, gateway: Gateway) -> None:
    bench.agent("other", "fake:echo")
    async with bench.worker():
        events = await gateway.done(await gateway.ask(agent="long gone"))
    assert (events[0]["agent"], events[0]["model"]) == ("default", "fake:tokens=20")
    assert events[-1]["content"] == words(1, 20)


async def test_an_agent_without_a_model_asks_the_default_one(
    bench: Bench, gateway: Gateway
) -> None:
    bench.agents["default"] = bench.agents["default"].model_copy(update={"model": None})
    async with bench.worker(llm_model="fake:tokens=3"):
        events = await gateway.done(await gateway.ask())
    assert events[0]["model"] == "fake:tokens=3"
    assert events[-1]["content"] == words(1, 3)


async def test_an_empty_answer_is_an_answer(bench: Bench, gateway: Gateway) -> None:
    bench.agent("silent", "fake:tokens=0")
    async with bench.worker():
        events = await gateway.done(await gateway.ask(agent="silent"))
    assert kinds(events) == ["started", "done"]
    assert (events[-1]["status"], events[-1]["content"]) == ("done", "")


async def test_an_answer_without_end_is_ended(bench: Bench, gateway: Gateway) -> None:
    endless = Scripted(["x" * (1 << 19)] * 4)
    async with bench.worker(model=endless):
        done = (await gateway.done(await gateway.ask()))[-1]
    assert (done["status"], done["finish_reason"]) == ("done", "length")
    assert len(done["content"]) == 3 << 19


async def test_all_text_is_there_however_it_arrives(bench: Bench, gateway: Gateway) -> None:
    for number, pace in enumerate(("delay_ms=1", "per_write=7", "per_write=1000", "delay_ms=0.2")):
        bench.agent(f"a{number}", f"fake:tokens=200,{pace}")
    async with bench.worker():
        commands = [await gateway.ask(agent=f"a{number}") for number in range(4)]
        for command in commands:
            events = await gateway.done(command)
            assert events[-1]["content"] == words(1, 200)
            assert deltas(events, 1) == 200


async def test_a_model_that_outruns_redis_is_held_back_and_loses_nothing(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    tokens = 100_000
    bench.agent("default", f"fake:tokens={tokens}")
    async with (
        proxy_to(bench.redis_url) as proxy,
        bench.worker(redis_url=proxy.url(bench.redis_url), lease_seconds=60, heartbeat_seconds=20),
    ):
        command = await gateway.ask()
        await gateway.saying(command)
        proxy.black_hole()
        [answer] = model.statistics.records

        async def stands_still() -> bool:
            before = answer.tokens
            await asyncio.sleep(0.3)
            return answer.tokens == before

        await until(stands_still)
        assert answer.tokens < tokens
        proxy.heal()
        done = (await gateway.done(command))[-1]
    assert (done["attempt"], done["content"]) == (1, words(1, tokens))
