"""A WebSocket: the thread's stream in frames, and questions asked through it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.api import sockets
from shared.events import MetadataAdded, ToolCall, ToolResult
from shared.settings import Settings
from tests.integration.api.gateways import Client, Running
from tests.integration.api.limited import clients
from tests.integration.api.socket_client import Socket, socket_of
from tests.integration.api.waiting import eventually
from tests.integration.api.worker import Worker


async def new_thread(client: Client) -> str:
    return (await client.ok("POST", "/v1/threads", json={}))["thread_id"]


async def ask(socket: Socket, content: str = "hi", **more: Any) -> Any:
    await socket.send("message", content=content, **more)
    return await socket.until("accepted")


async def refusal(socket: Socket) -> tuple[str | None, str]:
    error = await socket.until("error")
    assert error["message"]
    return error["id"], error["code"]


async def test_a_question_and_its_answer(client: Client, worker: Worker, user: str) -> None:
    thread_id = await new_thread(client)
    async with socket_of(client, thread_id, session="laptop") as socket:
        welcome = await socket.next()
        assert welcome == {
            "type": "system",
            "event": "welcome",
            "user": user,
            "session_id": "laptop",
            "users": [user],
            "last_position": 1,
        }
        accepted = await ask(socket, "Where is the source?", id="q1")
        attempt = await worker.begin(accepted["job_id"])
        await attempt.say("In the ", "hills.")
        await attempt.end()
        end = await socket.until("stream_end")
    reply = attempt.command.reply_id
    assert accepted["id"] == "q1"
    assert [frame["type"] for frame in socket.logged] == [
        *("thread.created", "message", "stream_start"),
        *("stream_chunk", "stream_chunk", "stream_end"),
    ]
    assert [frame["position"] for frame in socket.logged] == [1, 2, 3, 4, 5, 6]
    _, message, start, *chunks, _ = socket.logged
    assert message["message_id"] == accepted["message_id"]
    assert (message["user"], message["content"]) == (user, "Where is the source?")
    assert (message["session_id"], message["reply_id"]) == ("laptop", reply)
    assert (start["message_id"], start["job_id"]) == (reply, accepted["job_id"])
    assert [(c["message_id"], c["index"], c["content"]) for c in chunks] == [
        (reply, 2, "In the "),
        (reply, 3, "hills."),
    ]
    assert (end["message_id"], end["status"], end["content"]) == (reply, "done", "In the hills.")
    assert end.keys() >= {"tokens_used", "latency_ms"}


async def test_every_event_is_a_frame_also_for_who_comes_in_the_middle(
    client: Client, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    command, path = attempt.command, f"/v1/threads/{attempt.command.thread_id}"
    await attempt.add(MetadataAdded, metadata={"sources": ["a"]})
    async with socket_of(client, command.thread_id, after=4) as socket:
        await socket.until("system")
        await attempt.add(ToolCall, tool_call_id="t", name="now", arguments={"zone": "UTC"})
        await attempt.add(ToolResult, tool_call_id="t", name="now", content="noon")
        await attempt.fail("model_timeout")
        await client.ok("PATCH", path, json={"title": "Renamed"})
        await client.ok("PUT", f"{path}/participants/bob")
        await client.ok("POST", f"{path}/read", json={"message_id": command.message_id})
        await client.ok("DELETE", f"{path}/messages/{command.message_id}")
        await client.ok("DELETE", path)
        assert await socket.end() == (4404, "not_found")
    assert [frame["position"] for frame in socket.logged] == [*range(5, 14)]
    call, result, error, end, *of_thread = socket.logged
    kinds = [call["type"], result["type"], error["type"], end["type"]]
    assert kinds == ["tool_call", "tool_result", "error", "stream_end"]
    assert {frame["message_id"] for frame in (call, result, error, end)} == {command.reply_id}
    assert call["arguments"] == {"zone": "UTC"}
    assert (error["code"], error["retryable"], end["status"]) == ("model_timeout", True, "failed")
    assert [frame["type"] for frame in of_thread] == [
        *("thread.updated", "participant.joined", "thread.read"),
        *("message.deleted", "thread.deleted"),
    ]
    async with socket_of(client, command.thread_id) as late:
        assert await late.end() == (4404, "not_found")


async def test_the_frames_are_the_events_of_the_stream(client: Client, worker: Worker) -> None:
    """Nothing is left out of an event, whatever it says."""
    attempt = await worker.ask(client, 'a "quoted" \\ question\u2028 {"type":"done"}')
    await attempt.say("한국어", "\u0001\u2028\n", '"}')
    await attempt.add(MetadataAdded, metadata={"type": "token", "position": 7})
    await attempt.end()
    path = f"/v1/threads/{attempt.command.thread_id}/events"
    async with client.stream_events(path) as stream:
        events = await stream.take(8)
    async with socket_of(client, attempt.command.thread_id) as socket:
        frames = await socket.take(8)
    added = {"type", "position", "message_id", "index", "tokens_used"}
    for event, frame in zip(events, frames, strict=True):
        assert frame["position"] == event.cursor
        said = {name: value for name, value in event.json().items() if name not in added}
        assert {name: value for name, value in frame.items() if name not in added} == said


async def test_one_id_asks_once_over_either_way(client: Client, worker: Worker) -> None:
    thread_id = await new_thread(client)
    async with socket_of(client, thread_id) as socket, socket_of(client, thread_id) as other:
        first = await ask(socket, id="again")
        assert await ask(socket, id="again") == first
        assert await ask(other, id="again") == first
        await socket.send("message", content="something else", id="again")
        assert await refusal(socket) == ("again", "idempotency_mismatch")
    posted = await client.ok(
        "POST",
        f"/v1/threads/{thread_id}/messages",
        json={"content": "hi"},
        headers={"Idempotency-Key": "again"},
    )
    assert posted["job_id"] == first["job_id"]
    records = await worker.records(thread_id)
    assert [record.type for record in records] == ["thread.created", "message.posted"]


@pytest.mark.parametrize(
    ("text", "frame_id"),
    [
        ("{", None),
        ("[]", None),
        ('"message"', None),
        ('{"type":"message"}', None),
        ('{"type":"message","content":""}', None),
        ('{"type":"message","content":"a\\u0000"}', None),
        ('{"type":"message","content":"a\\ud800"}', None),
        ('{"type":"message","content":"a","stream":true,"id":"s"}', "s"),
        ('{"type":"message","content":"a","id":"with space"}', None),
        ('{"type":"unheard-of","id":"u"}', "u"),
        ('{"id":"n"}', "n"),
        ('{"type":"typing"}', None),
        ('{"type":"typing","is_typing":1}', None),
        ('{"type":"resume","after":"1"}', None),
        ('{"type":"resume","after":-1}', None),
        ('{"type":"cancel","job_id":7}', None),
        ('{"type":"file","file_id":"f"}', None),
        ('{"type":"message","content":' + "[" * 5000 + "]" * 5000 + "}", None),
        ('{"type":"message","content":"a","metadata":{"a":1e999}}', None),
    ],
)
async def test_what_is_no_frame_is_told_and_the_socket_goes_on(
    client: Client, text: str, frame_id: str | None
) -> None:
    async with socket_of(client, await new_thread(client)) as socket:
        await socket.send_text(text)
        assert await refusal(socket) == (frame_id, "invalid_request")
        await socket.send("ping", id="p")
        assert await socket.until("pong") == {"type": "pong", "id": "p"}


async def test_refusals_are_those_of_http(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    elsewhere = await worker.ask(client)
    async with socket_of(client, attempt.command.thread_id, after=3) as socket:
        await socket.send("message", content="hi", agent="nobody", id="1")
        assert await refusal(socket) == ("1", "unknown_agent")
        await socket.send("message", content="hi", on_busy="reject", id="2")
        assert await refusal(socket) == ("2", "thread_busy")
        await socket.send("message", replaces="msg_none", id="3")
        assert await refusal(socket) == ("3", "not_found")
        for job_id in (elsewhere.command.job_id, "job_none"):
            await socket.send("cancel", job_id=job_id, id="4")
            assert await refusal(socket) == ("4", "not_found")
        await socket.send("resume", after=99, id="5")
        assert await refusal(socket) == ("5", "cursor_ahead")
        for _ in range(4):
            await ask(socket)
        await socket.send("message", content="one too many", id="6")
        error = await socket.until("error")
        assert (error["id"], error["code"], error["retry_after"]) == ("6", "queue_full", 1)


async def test_frames_that_ask_are_requests(settings: Settings, user: str) -> None:
    async with clients(settings, user, rate_limit_per_minute=5) as (client,):
        thread_id = await new_thread(client)
        async with socket_of(client, thread_id) as socket:
            await ask(socket)
            await socket.send("cancel")
            await socket.until("accepted")
            await socket.send("resume", after=0)
            await socket.until("accepted")
            await socket.send("message", content="hi", id="over")
            error = await socket.until("error")
            assert (error["id"], error["code"]) == ("over", "rate_limited")
            assert 1 <= error["retry_after"] <= 60
            await socket.send("ping")  # costs nothing
            await socket.until("pong")


async def test_a_job_is_cancelled_through_the_socket(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    async with socket_of(client, attempt.command.thread_id, after=3) as socket:
        waiting = await ask(socket)
        await socket.send("cancel", job_id=waiting["job_id"], id="c")
        accepted = await socket.until("accepted")
        assert (accepted["id"], accepted["jobs"]) == (
            "c",
            [{"job_id": waiting["job_id"], "status": "cancelled"}],
        )
        end = await socket.until("stream_end")
        assert (end["job_id"], end["status"]) == (waiting["job_id"], "cancelled")
        await socket.send("cancel", job_id=attempt.command.job_id)
        accepted = await socket.until("accepted")
        assert accepted["jobs"] == [{"job_id": attempt.command.job_id, "status": "running"}]


async def test_many_clients_at_once_each_see_all(
    gateway: Running, client: Client, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    thread_id = attempt.command.thread_id
    sockets_of_user = [socket_of(client, thread_id) for _ in range(20)]
    for socket in sockets_of_user:
        await socket.__aenter__()
    try:
        for number in range(10):
            await attempt.say(str(number))
        await attempt.end()
        await asyncio.gather(*(socket.until("stream_end") for socket in sockets_of_user))
    finally:
        await asyncio.gather(*(s.__aexit__(None, None, None) for s in sockets_of_user))
    for socket in sockets_of_user:
        assert [frame["position"] for frame in socket.logged] == [*range(1, 15)]
    await eventually(lambda: gateway.gateway.feed.follower_count == 0)
    await eventually(lambda: gateway.gateway.company.places.open_count == 0)


async def test_who_floods_is_sent_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "FRAMES_AT_ONCE_MAX", 10)
    async with socket_of(client, await new_thread(client)) as socket:
        for _ in range(30):
            await socket.send("ping")
        assert await socket.end() == (1008, "too_many_frames")
    assert len([frame for frame in socket.frames if frame["type"] == "pong"]) >= 10
