"""Who may open a socket: origins, tokens, tickets, and how many."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from services.api import stream_leases
from shared.keys import sockets_of_user
from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.api.gateways import Client, Running, token_for
from tests.integration.api.limited import clients
from tests.integration.api.socket_client import Socket, socket_of
from tests.integration.api.test_drain import process_of, ready
from tests.integration.api.test_sockets import ask, new_thread
from tests.integration.api.test_tickets import ticket_for
from tests.integration.api.waiting import eventually
from tests.integration.api.worker import Worker

PAGE = "https://chat.example"
FULL = (4429, "too_many_sockets")


async def turned_away(socket: Socket) -> tuple[int, str]:
    """Status and code of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with socket:
            raise AssertionError("it was let in")
    response = refused.value.response
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    problem = json.loads(response.body or b"")
    assert problem["status"] == response.status_code
    return response.status_code, problem["code"]


async def is_let_in(socket: Socket) -> bool:
    async with socket:
        return (await socket.next() or {}).get("event") == "welcome"


async def test_pages_are_let_in_by_list(settings: Settings, user: str) -> None:
    async with clients(settings, user, cors_origins=(PAGE, "http://localhost:3000")) as (client,):
        thread_id = await new_thread(client)

        def page(origin: str | None) -> Socket:
            socket = socket_of(client, thread_id)
            socket.origin = origin
            return socket

        for origin in (None, PAGE, "http://localhost:3000"):
            assert await is_let_in(page(origin))
        for origin in ("https://evil.example", "null", f"{PAGE}.evil", "http://chat.example", ""):
            assert await turned_away(page(origin)) == (403, "foreign_origin"), origin


async def test_a_foreign_page_costs_no_ticket(settings: Settings, user: str) -> None:
    async with clients(settings, user, cors_origins=(PAGE,)) as (client,):
        thread_id = await new_thread(client)
        ticket = await ticket_for(client, thread_id=thread_id)
        socket = socket_of(client, thread_id, ticket=ticket)
        socket.headers, socket.origin = {}, "https://evil.example"
        assert await turned_away(socket) == (403, "foreign_origin")
        socket.origin = PAGE
        assert await is_let_in(socket)


async def test_no_page_without_a_list(client: Client) -> None:
    socket = socket_of(client, await new_thread(client))
    socket.origin = PAGE
    assert await turned_away(socket) == (403, "foreign_origin")


async def test_strangers_are_answered_like_everywhere(client: Client, user: str) -> None:
    thread_id = await new_thread(client)
    for given in (None, "Bearer nonsense", f"Bearer {token_for(user, seconds=-60)}"):
        socket = socket_of(client, thread_id)
        socket.headers = {"Authorization": given} if given else {}
        assert await turned_away(socket) == (401, "unauthorized")
    socket = socket_of(client, thread_id, access_token=token_for(user))
    assert await turned_away(socket) == (400, "token_in_url")


async def test_a_ticket_opens_its_thread_once(client: Client, worker: Worker) -> None:
    thread_id, other = await new_thread(client), await new_thread(client)
    client.headers["X-Session-Id"] = "tablet"
    ticket = await ticket_for(client, thread_id=thread_id)
    del client.headers["X-Session-Id"]
    elsewhere = socket_of(client, other, ticket=ticket)
    elsewhere.headers = {}
    assert await turned_away(elsewhere) == (401, "unauthorized")
    socket = socket_of(client, thread_id, ticket=ticket, session="another")
    socket.headers = {}
    async with socket:
        welcome = await socket.until("system")
        assert welcome["session_id"] == "tablet"
        accepted = await ask(socket)
        assert (await worker.begin(accepted["job_id"])).command.session_id == "tablet"
    again = socket_of(client, thread_id, ticket=ticket)
    again.headers = {}
    assert await turned_away(again) == (401, "unauthorized")


async def test_the_device_is_named_by_the_header_the_address_or_the_gateway(client: Client) -> None:
    thread_id = await new_thread(client)
    for header, query, expected in (
        ("phone", "other", "phone"),
        (None, "other", "other"),
        (None, "not a name", None),
        (None, None, None),
    ):
        socket = socket_of(client, thread_id, **({"session": query} if query else {}))
        if header:
            socket.headers["X-Session-Id"] = header
        async with socket:
            given = (await socket.until("system"))["session_id"]
        assert given == expected if expected else given.startswith("ses_")


async def test_nobody_writes_down_tickets_or_what_is_said(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    """However much is logged."""
    thread_id = await new_thread(client)
    ticket = await ticket_for(client, thread_id=thread_id)
    async with process_of(settings, tmp_path, HEADWATER_LOG_LEVEL="DEBUG") as (process, port):
        await ready(process, tmp_path)
        url = f"http://127.0.0.1:{port}/v1/threads/{thread_id}/ws"
        async with Socket(f"{url}?ticket={ticket}") as socket:
            await ask(socket, "a well kept secret")
            await socket.send_text('{"type":"well kept"}')
            await socket.until("message")
        process.terminate()
        _, logged = await process.communicate()
    assert thread_id in logged.decode()
    assert ticket not in logged.decode()
    assert "well kept" not in logged.decode()


@pytest.fixture
def quick_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_leases, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(stream_leases, "RENEW_SECONDS", 0.1)


async def test_so_many_sockets_of_a_user_on_all_gateways(
    settings: Settings, user: str, redis: Redis, quick_leases: None
) -> None:
    async with clients(settings, user, 2, sockets_per_user=2) as (one, other):
        thread_id = await new_thread(one)
        async with socket_of(one, thread_id) as first, socket_of(other, thread_id) as second:
            await first.until("system")
            await second.until("system")
            for client in (one, other):
                async with socket_of(client, thread_id) as third:
                    assert await third.end() == FULL
            async with one.stream_events(f"/v1/threads/{thread_id}/events") as stream:
                await stream.take(1)  # streams have places of their own

        async def is_free() -> bool:
            return await redis.zcard(sockets_of_user(user)) == 0

        await eventually(is_free)
        assert await is_let_in(socket_of(one, thread_id))


async def test_so_many_sockets_of_a_gateway(settings: Settings, user: str) -> None:
    async with clients(settings, user, sockets_per_gateway=3) as (client,):
        thread_id = await new_thread(client)
        async with AsyncExitStack() as stack:
            for _ in range(3):
                socket = await stack.enter_async_context(socket_of(client, thread_id))
                await socket.until("system")
            async with socket_of(client, thread_id) as over:
                assert await over.end() == FULL

        async def is_back() -> bool:
            return await is_let_in(socket_of(client, thread_id))

        await eventually(is_back)


@pytest.mark.parametrize(("count", "limit"), [(2, "sockets_per_user"), (1, "sockets_per_gateway")])
async def test_sockets_at_once_do_not_pass_a_limit(
    settings: Settings, user: str, count: int, limit: str
) -> None:
    async with clients(settings, user, count, **{limit: 3}) as gateways:
        thread_id = await new_thread(gateways[0])
        opened = [socket_of(gateways[number % count], thread_id) for number in range(12)]
        async with AsyncExitStack() as stack:
            await asyncio.gather(*(stack.enter_async_context(socket) for socket in opened))
            firsts = await asyncio.gather(*(socket.next() for socket in opened))
        assert sum(first is not None for first in firsts) == 3


async def test_handshakes_are_requests(settings: Settings, user: str) -> None:
    async with clients(settings, user, rate_limit_per_minute=3) as (client,):
        thread_id = await new_thread(client)
        for _ in range(2):
            assert await is_let_in(socket_of(client, thread_id))
        assert await turned_away(socket_of(client, thread_id)) == (429, "rate_limited")


async def test_handshakes_are_counted(gateway: Running, client: Client) -> None:
    thread_id = await new_thread(client)
    async with socket_of(client, thread_id) as socket:
        await socket.until("system")
        page = (await client.get("/metrics")).text
    opened = 'method="GET",route="/v1/threads/{thread_id}/ws",status="101"'
    assert f"headwater_http_requests_total{{{opened}}}" in page
    assert "headwater_sockets_open 1.0" in page


@pytest.mark.parametrize("path", ["/v1/threads/{}/ws", "/v1/threads/{}/ws?after=0"])
async def test_a_plain_request_is_no_handshake(client: Client, path: str) -> None:
    response: Any = await client.get(path.format(await new_thread(client)))
    assert response.status_code in (404, 405)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "change", [(b"X-Long: x", b"X-Long: " + b"x" * 9000), (b"GET", b"POST")], ids=["long", "method"]
)
async def test_what_is_no_handshake_to_the_library_is_answered(
    gateway: Running, client: Client, change: tuple[bytes, bytes]
) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = (
        b"GET /v1/threads/x/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"X-Long: x\r\n\r\n"
    )
    writer.write(request.replace(*change))
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 40")
    assert await client.ok("GET", "/healthz") == {"status": "ok"}
