"""A socket that is cut anywhere, or goes back, and takes up again: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from services.api.frames import logged_frame
from shared.codec import Record
from shared.settings import Settings
from tests.integration.api.gateways import Client
from tests.integration.api.limited import clients
from tests.integration.api.socket_client import Frame, socket_of
from tests.integration.api.test_sockets import ask, new_thread, refusal
from tests.integration.api.worker import Attempt, Worker

VIEWERS = 6
TEXTS = 120


def framed(records: list[Record], attempt: Attempt) -> list[Any]:
    """What a client must see of a thread in which one question was asked."""
    reply = attempt.command.reply_id
    of_thread = attempt.command.thread_id
    return [json.loads(logged_frame(r, None if r.stream == of_thread else reply)) for r in records]


async def watch(gateways: list[Client], thread_id: str, dice: random.Random) -> list[Frame]:
    """Everything up to the end of the answer, over as many sockets as the dice say."""
    seen: list[Frame] = []
    while not seen or seen[-1]["type"] != "stream_end":
        client = dice.choice(gateways)
        after = seen[-1]["position"] if seen else 0
        goes_back = dice.random() < 0.3
        async with socket_of(client, thread_id, after=0 if goes_back else after) as socket:
            if goes_back:
                await socket.send("resume", after=after)
                await socket.until("accepted")
                socket.frames.clear()
            for _ in range(dice.randint(1, 12)):
                (frame,) = await socket.take(1)
                seen.append(frame)
                if frame["type"] == "stream_end":
                    break
            if dice.random() < 0.7:
                socket.connection.transport.abort()
    return seen


async def test_cut_anywhere_on_any_gateway_it_sees_the_stream_once(
    settings: Settings, worker: Worker, user: str
) -> None:
    dice = random.Random()
    async with clients(settings, user, 2) as gateways:
        attempt = await worker.ask(gateways[0])
        thread_id = attempt.command.thread_id
        viewers = [
            asyncio.create_task(watch(gateways, thread_id, random.Random(dice.random())))
            for _ in range(VIEWERS)
        ]
        for number in range(TEXTS):
            await attempt.say(f"{number} ", silently=dice.random() < 0.1)
            if dice.random() < 0.2:
                await asyncio.sleep(0)
        await attempt.end()
        seen = await asyncio.gather(*viewers)
    expected = framed(await worker.records(thread_id), attempt)
    assert len(expected) == TEXTS + 4
    for frames in seen:
        assert frames == expected


async def test_a_socket_goes_back_and_forth(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    await attempt.say(*"abcdef")
    expected = framed(await worker.records(attempt.command.thread_id), attempt)
    async with socket_of(client, attempt.command.thread_id) as socket:
        await socket.take(9)
        for after in (4, 0, 9, 7, 7):
            await socket.send("resume", after=after, id=f"to {after}".replace(" ", "-"))
            accepted = await socket.until("accepted")
            assert (accepted["id"], accepted["after"]) == (f"to-{after}", after)
            assert await socket.take(9 - after) == expected[after:]
        await attempt.say("g")
        (last,) = await socket.take(1)
        assert (last["content"], last["position"]) == ("g", 10)


async def test_resumes_that_come_at_once_are_all_answered(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    await attempt.say(*"abc")
    async with socket_of(client, attempt.command.thread_id) as socket:
        for after in range(5):
            await socket.send("resume", after=after)
        answers = [await socket.until("accepted") for _ in range(5)]
        assert [answer["after"] for answer in answers] == [0, 1, 2, 3, 4]
        assert [frame["position"] for frame in await socket.take(2)] == [5, 6]


@pytest.mark.parametrize(
    ("after", "reason"), [("x", "bad_cursor"), ("-1", "bad_cursor"), ("99", "cursor_ahead")]
)
async def test_a_place_that_was_never_given_out(client: Client, after: str, reason: str) -> None:
    async with socket_of(client, await new_thread(client), after=after) as socket:
        assert await socket.end() == (4400, reason)
    assert socket.frames == []


async def test_a_resume_that_is_refused_changes_nothing(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    async with socket_of(client, attempt.command.thread_id) as socket:
        await socket.take(3)
        await socket.send("resume", after=4, id="r")
        assert await refusal(socket) == ("r", "cursor_ahead")
        await attempt.say("a")
        assert [frame["position"] for frame in await socket.take(1)] == [4]


async def test_a_second_attempt_begins_again_in_the_same_message(
    client: Client, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    await attempt.say("void")
    again = await worker.begin_again(attempt)
    await again.say("good")
    await again.end()
    async with socket_of(client, attempt.command.thread_id, after=4) as socket:
        frames = await socket.take(3)
    assert [(frame["type"], frame["attempt"]) for frame in frames] == [
        ("stream_start", 2),
        ("stream_chunk", 2),
        ("stream_end", 2),
    ]
    assert {frame["message_id"] for frame in frames} == {attempt.command.reply_id}
    assert frames[2]["content"] == "good"


async def test_jobs_one_after_another_keep_their_own_messages(
    client: Client, worker: Worker
) -> None:
    async with socket_of(client, await new_thread(client)) as socket:
        first, second = await ask(socket, "one"), await ask(socket, "two")
        for accepted, text in ((first, "1"), (second, "2")):
            await worker.answer(accepted["job_id"], [text])
            end = await socket.until("stream_end")
            assert (end["job_id"], end["content"]) == (accepted["job_id"], text)
    messages = {f["job_id"]: f["reply_id"] for f in socket.logged if f["type"] == "message"}
    for frame in socket.logged:
        if frame["type"].startswith("stream_"):
            assert frame["message_id"] == messages[frame["job_id"]]
