"""Why a socket ends, and what its client is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.api import connections, server, socket_connections
from shared.settings import Settings
from tests.integration.api.gateways import Client, Running, running_gateway, token_for
from tests.integration.api.limited import clients
from tests.integration.api.socket_client import Socket, socket_of
from tests.integration.api.test_drain import drain
from tests.integration.api.test_sockets import new_thread
from tests.integration.api.waiting import eventually, soon
from tests.integration.api.worker import Worker

RESTARTING = (1012, "reconnect")
GONE = (4404, "not_found")


async def is_over(gateway: Running) -> None:
    """Nothing is left of any socket."""
    await eventually(lambda: gateway.gateway.company.places.open_count == 0)
    await eventually(lambda: gateway.gateway.feed.follower_count == 0)
    await eventually(lambda: not any(t.get_name() == "socket.show" for t in asyncio.all_tasks()))


@asynccontextmanager
async def own(settings: Settings, **more: Any) -> AsyncGenerator[Running]:
    async with running_gateway(settings.model_copy(update=more)) as running:
        yield running


async def test_a_gateway_that_goes_sends_its_sockets_elsewhere(
    settings: Settings, client: Client, worker: Worker, user: str
) -> None:
    attempt = await worker.ask(client)
    async with own(settings) as leaving, leaving.client(user) as theirs:
        opened = [socket_of(theirs, attempt.command.thread_id) for _ in range(5)]
        for socket in opened:
            await socket.__aenter__()
            await socket.take(3)
        draining = asyncio.create_task(drain(leaving))
        for socket in opened:
            assert await socket.end() == RESTARTING
        await draining
        assert leaving.gateway.feed.follower_count == 0
    await attempt.say("a")
    async with socket_of(client, attempt.command.thread_id, after=opened[0].position) as socket:
        assert [frame["position"] for frame in await socket.take(1)] == [4]


async def test_a_socket_ends_with_its_token(client: Client, gateway: Running, user: str) -> None:
    thread_id = await new_thread(client)
    expires_at = int(time.time()) + 2
    async with gateway.client(user) as brief:
        brief.headers["Authorization"] = f"Bearer {token_for(user, exp=expires_at)}"
        async with socket_of(brief, thread_id) as socket:
            assert await socket.end() == (4401, "unauthorized")
    assert expires_at - 0.1 < time.time() < expires_at + 1
    await is_over(gateway)


async def test_who_is_taken_out_sees_nothing_that_stands_behind_it(
    client: Client, gateway: Running, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    path = f"/v1/threads/{attempt.command.thread_id}/participants/guest"
    await client.ok("PUT", path)
    async with (
        gateway.client("guest") as guest,
        socket_of(guest, attempt.command.thread_id) as theirs,
        socket_of(client, attempt.command.thread_id) as mine,
    ):
        await theirs.take(4)
        await client.ok("DELETE", path)
        await attempt.say("secret")
        assert await theirs.end() == GONE
        assert theirs.frames[-1]["type"] == "participant.left"
        assert theirs.frames[-1]["user"] == "guest"
        assert (await mine.take(6))[-1]["content"] == "secret"
        async with socket_of(guest, attempt.command.thread_id) as again:
            assert await again.end() == GONE


async def test_another_ones_thread_is_like_none(client: Client, gateway: Running) -> None:
    thread_id = await new_thread(client)
    async with gateway.client("somebody-else") as stranger:
        for name in (thread_id, "thr_" + "0" * 32, "nonsense"):
            async with socket_of(stranger, name) as socket:
                assert await socket.end() == GONE
            assert socket.frames == []


async def test_what_is_too_large_is_told_so(client: Client, gateway: Running) -> None:
    thread_id = await new_thread(client)
    content = "x" * 65_000
    async with socket_of(client, thread_id) as socket:
        await socket.send("message", content=content)
        assert (await socket.until("message"))["content"] == content
        await socket.send_text(b'"' + b"x" * 4_000_000)
        code, _ = await socket.end()
        assert code == 1009
    async with socket_of(client, thread_id) as socket:
        await socket.connection.send(["x" * 30_000] * 4)  # in fragments
        code, _ = await socket.end()
        assert code == 1009
    await is_over(gateway)


async def test_a_smaller_bound(settings: Settings, user: str) -> None:
    async with (
        clients(settings, user, ws_message_bytes_max=1024) as (client,),
        socket_of(client, await new_thread(client)) as socket,
    ):
        await socket.send("message", content="x" * 1000)
        assert (await socket.end())[0] == 1009


async def test_fragments_without_end(client: Client, gateway: Running) -> None:
    async with socket_of(client, await new_thread(client)) as socket:
        sending = asyncio.create_task(socket.connection.send(["", *[""] * 5000, "x"]))
        assert await socket.end() == (1009, "frame_too_large")
        sending.cancel()
    await is_over(gateway)


async def test_bytes_are_no_frame(client: Client, gateway: Running) -> None:
    async with socket_of(client, await new_thread(client)) as socket:
        await socket.send_text(b'{"type":"ping"}')
        assert await socket.end() == (1003, "not_text")
    await is_over(gateway)


async def test_who_goes_leaves_nothing_behind(
    client: Client, gateway: Running, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    for abrupt in (True, False):
        socket = socket_of(client, attempt.command.thread_id)
        async with socket:
            await socket.take(3)
            if abrupt:
                socket.connection.transport.abort()
        await is_over(gateway)
    assert (await client.ok("GET", f"/v1/jobs/{attempt.command.job_id}"))["status"] == "running"


async def test_a_socket_outlives_what_a_request_may_take(
    settings: Settings, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS_MAX", 0.2)
    async with clients(settings, user) as (client,):
        thread_id = await new_thread(client)
        async with socket_of(client, thread_id) as socket:
            await socket.take(1)
            async with asyncio.timeout(5):
                for _ in range(6):
                    await asyncio.sleep(0.1)
                    await socket.send("ping")
                    await socket.until("pong")


async def test_who_shows_no_life_is_closed(
    settings: Settings, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PING_SECONDS", 0.1)
    monkeypatch.setattr(server, "PONG_SECONDS_MAX", 0.3)
    async with own(settings) as gateway, gateway.client(user) as client:
        thread_id = await new_thread(client)
        async with socket_of(client, thread_id) as lively, socket_of(client, thread_id) as silent:
            silent.connection.protocol.send_pong = lambda data: None  # type: ignore[method-assign] -- a page that hangs
            silent.connection.protocol.recv_frame = _without_pongs(silent)  # type: ignore[method-assign]
            assert await silent.end() == (4408, "idle")
            await lively.send("ping")
            await lively.until("pong")
        await is_over(gateway)


def _without_pongs(socket: Socket) -> Any:
    """What the client does with a frame, but that it never answers a ping."""
    through = socket.connection.protocol.recv_frame

    def received(frame: Any) -> None:
        if frame.opcode != 9:
            through(frame)

    return received


async def test_who_takes_nothing_is_told_to_come_back(
    settings: Settings, user: str, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer goes on meanwhile, others see it, and the slow one resumes where it was."""
    monkeypatch.setattr(connections, "SEND_SECONDS_MAX", 0.5)
    monkeypatch.setattr(socket_connections, "SEND_BUFFER_BYTES", 8192)
    monkeypatch.setattr(socket_connections, "CLOSE_SECONDS_MAX", 5.0)
    async with own(settings) as gateway, gateway.client(user) as client:
        attempt = await worker.ask(client)
        thread_id = attempt.command.thread_id
        slow = socket_of(client, thread_id)
        slow.is_stalling = True
        async with slow, socket_of(client, thread_id) as quick:
            await slow.take(1)
            slow.connection.transport.pause_reading()
            for _ in range(40):
                await attempt.say(*["x" * 4000] * 5)
            await eventually(lambda: gateway.gateway.company.places.open_count == 1)
            slow.connection.transport.resume_reading()
            assert await slow.end() == (4408, "slow")
            await attempt.end()
            await quick.until("stream_end")
        assert [frame["position"] for frame in slow.logged] == [*range(1, slow.position + 1)]
        async with socket_of(client, thread_id, after=slow.position) as again:
            await again.until("stream_end")
        seen = [frame["position"] for frame in (*slow.logged, *again.logged)]
        assert seen == [frame["position"] for frame in quick.logged]


async def test_pings_of_who_reads_nothing_are_not_answered(
    settings: Settings, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their answers would wait here for ever, as many as were sent."""
    held: list[int] = []
    look = socket_connections.SocketConnection.handle_ping

    def noted(self: socket_connections.SocketConnection) -> None:
        look(self)
        held.append(self.transport.get_write_buffer_size())

    monkeypatch.setattr(socket_connections.SocketConnection, "handle_ping", noted)
    async with own(settings) as gateway, gateway.client(user) as client:
        socket = socket_of(client, await new_thread(client))
        socket.is_stalling = True
        async with socket:
            await socket.take(1)
            socket.connection.transport.pause_reading()
            ping = b"\x89\xfd" + bytes(4) + bytes(125)
            written = 0
            while written < 8_000_000:
                socket.connection.transport.write(ping * 500)
                written += len(ping) * 500
                await asyncio.sleep(0)
            await eventually(lambda: len(held) == written // len(ping))
            assert max(held) < 200_000
            socket.connection.transport.abort()
        await is_over(gateway)


async def test_a_gateway_goes_also_with_a_client_that_takes_nothing(
    settings: Settings, user: str, worker: Worker
) -> None:
    async with own(settings) as gateway, gateway.client(user) as client:
        attempt = await worker.ask(client)
        slow = socket_of(client, attempt.command.thread_id)
        slow.is_stalling = True
        async with slow:
            await slow.take(1)
            slow.connection.transport.pause_reading()
            for _ in range(40):
                await attempt.say(*["x" * 4000] * 5)
            await soon(gateway.service.drain())
            slow.connection.transport.abort()
