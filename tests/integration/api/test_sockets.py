"""A WebSocket: the thread's stream in frames, and questions asked through it."""

from __future__ import annotations

from tests.integration.api.gateways import Client
from tests.integration.api.socket_client import socket_of
from tests.integration.api.worker import Worker


async def test_a_question_and_its_answer(client: Client, worker: Worker, user: str) -> None:
    thread = await client.ok("POST", "/v1/threads", json={"title": "Rivers"})
    thread_id = thread["thread_id"]
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
        await socket.send("message", id="q1", content="Where is the source?")
        accepted = await socket.until("accepted")
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
    assert message["session_id"] == "laptop"
    assert (start["message_id"], start["job_id"]) == (reply, accepted["job_id"])
    assert [(c["message_id"], c["index"], c["content"]) for c in chunks] == [
        (reply, 2, "In the "),
        (reply, 3, "hills."),
    ]
    assert (end["message_id"], end["status"], end["content"]) == (reply, "done", "In the hills.")
    assert end.keys() >= {"tokens_used", "latency_ms"}
