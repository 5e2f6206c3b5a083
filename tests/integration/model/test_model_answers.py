"""A whole answer: its text, its end, and the connection it leaves behind."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.orchestrator.model import ChatMessage, Completion, ModelRequest, Usage
from services.orchestrator.model_limits import ModelLimits
from tests.support.asker import PROMPT, Asker, MakeAsker
from tests.support.model_server import ModelServer

PROMPT_WORDS = len(PROMPT.split())


def words(count: int) -> str:
    return "".join(f"t{number} " for number in range(1, count + 1))


async def test_an_answer_adds_up(ask: Asker) -> None:
    answer = await ask("fake:tokens=300")
    assert answer.text == words(300)
    assert sum(delta.deltas for delta in answer.deltas) == 300
    assert answer.completion == Completion("stop", Usage(PROMPT_WORDS, 300, PROMPT_WORDS + 300))


async def test_tokens_are_handed_out_as_they_arrive(ask: Asker, server: ModelServer) -> None:
    async with ask.model.stream(ask.request("fake:tokens=3,delay_ms=30")) as stream:
        first = await anext(stream)
        assert server.statistics.open_streams == 1, "the server has not finished"
        rest = [delta async for delta in stream]
    assert [first.content, *(delta.content for delta in rest)] == ["t1 ", "t2 ", "t3 "]


async def test_the_end_is_known_only_at_the_end(ask: Asker) -> None:
    async with ask.model.stream(ask.request("fake:tokens=2,delay_ms=5")) as stream:
        await anext(stream)
        assert stream.completion is None
        assert [delta.content async for delta in stream] == ["t2 "]
        assert stream.completion is not None
        assert [delta async for delta in stream] == [], "iterating on stays at the end"


async def test_an_empty_answer_is_an_answer(ask: Asker) -> None:
    answer = await ask("fake:tokens=0")
    assert (answer.deltas, answer.completion) == (
        [],
        Completion("stop", Usage(PROMPT_WORDS, 0, PROMPT_WORDS)),
    )


async def test_the_model_is_given_the_messages_in_order(ask: Asker) -> None:
    messages = [ChatMessage("system", "be brief"), ChatMessage("user", "naïve 日本\n  2")]
    async with ask.model.stream(ModelRequest(messages, "fake:echo")) as stream:
        text = "".join([delta.content async for delta in stream])
    assert text == "be brief\nnaïve 日本\n  2"


@pytest.mark.parametrize("name", ["fake:no_done", "fake:no_finish"])
async def test_one_of_the_two_end_marks_is_enough(ask: Asker, name: str) -> None:
    answer = await ask(name)
    assert (answer.text, answer.completion.finish_reason) == (words(16), "stop")


async def test_nul_never_reaches_the_caller(ask: Asker) -> None:
    assert (await ask("fake:nul")).text == words(16)


async def test_a_prompt_of_megabytes_is_sent_whole(ask: Asker) -> None:
    answer = await ask("fake:tokens=1", prompt="word " * 1_000_000)
    assert answer.completion.usage == Usage(1_000_000, 1, 1_000_001)


@pytest.mark.parametrize("end", ["", "/"])
async def test_the_base_url_may_end_in_a_slash(
    make_asker: MakeAsker, server: ModelServer, end: str
) -> None:
    ask = make_asker(base_url=f"{server.origin}/any/prefix/v1{end}")
    assert (await ask("fake")).text == words(16)


async def test_a_whole_answer_leaves_its_connection_for_the_next(
    ask: Asker, server: ModelServer
) -> None:
    for _ in range(3):
        await ask("fake")
        await ask("fake:tokens=5,delay_ms=1")
        await ask("fake:end_ms=20")
    assert server.statistics.completed == 9
    assert server.statistics.open_connections == 1


async def test_a_body_that_does_not_end_is_not_waited_for(ask: Asker, server: ModelServer) -> None:
    assert (await ask("fake:end_ms=60000")).text == words(16)
    await server.statistics.until(lambda seen: seen.open_connections == 0)


async def test_many_answers_at_once_keep_apart(ask: Asker, server: ModelServer) -> None:
    counts = range(1, 51)
    answers = await asyncio.gather(*(ask(f"fake:tokens={n},delay_ms=1") for n in counts))
    assert [answer.text for answer in answers] == [words(n) for n in counts]
    assert server.statistics.completed == len(counts)


async def test_a_reader_that_pauses_is_no_silence_of_the_server(make_asker: MakeAsker) -> None:
    ask = make_asker(ModelLimits(tries_max=1, between_tokens_seconds=0.1))
    async with ask.model.stream(ask.request("fake:tokens=4,delay_ms=20")) as stream:
        for _ in range(2):
            await anext(stream)
        await asyncio.sleep(0.3)  # the work of a caller, three times the bound on silence
        assert "".join([delta.content async for delta in stream]) == "t3 t4 "


async def test_an_event_loop_that_stood_still_is_no_silence_of_the_server(
    make_asker: MakeAsker,
) -> None:
    ask = make_asker(ModelLimits(tries_max=1, between_tokens_seconds=0.1))
    async with ask.model.stream(ask.request("fake:tokens=4,delay_ms=20")) as stream:
        assert (await anext(stream)).content == "t1 "
        asyncio.get_running_loop().call_soon(time.sleep, 0.3)  # while the next token is waited for
        assert "".join([delta.content async for delta in stream]) == "t2 t3 t4 "
