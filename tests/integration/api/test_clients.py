"""Clients that take nothing, or vanish: they cost little, not for long, and nobody else notices."""

from __future__ import annotations

import asyncio
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from services.api import connections, follower
from tests.integration.api.gateways import Client, Running, token_for
from tests.integration.api.test_feed import STALLING
from tests.integration.api.waiting import eventually, soon
from tests.integration.api.worker import Worker

CLIENTS = 50
SEND_SECONDS_MAX = 1.0
REQUEST_SECONDS_MAX = 0.3
SOCKET_BYTES = 8192  # held by the kernel for a client: a stream soon finds no room
BYTES_PER_CLIENT_MAX = 1 << 20
LAG_SECONDS_MAX = 0.25  # of a loop that shares its processors with others

watch_by_kernel = connections._watch_by_kernel


def small_buffer(connection: Any, watch: Callable[[Any], None]) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    watch(connection)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short patience, small buffers; the kernel leaves it to the gateway to watch."""
    monkeypatch.setattr(connections, "SEND_SECONDS_MAX", SEND_SECONDS_MAX)
    monkeypatch.setattr(
        connections, "_watch_by_kernel", lambda sock: small_buffer(sock, lambda _: None)
    )


@asynccontextmanager
async def connection(gateway: Running) -> AsyncGenerator[tuple[StreamReader, StreamWriter]]:
    where = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    yield reader, writer
    writer.close()
    with suppress(ConnectionResetError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("head", "body"),
    [("", b""), ("GET /v1/threads HTT", b""), ("POST /v1/jobs HTTP/1.1\r\nHost: x\r\n", b"{")],
)
async def test_a_client_that_does_not_finish_its_request(
    gateway: Running, user: str, monkeypatch: pytest.MonkeyPatch, head: str, body: bytes
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS_MAX", REQUEST_SECONDS_MAX)
    async with connection(gateway) as (reader, writer):
        writer.write(head.encode())
        if body:
            fields = f"Authorization: Bearer {token_for(user)}\r\nContent-Length: 9\r\n\r\n"
            writer.write(fields.encode() + body)
        with suppress(ConnectionResetError):
            await soon(reader.read())  # to the connection's end


async def test_no_time_is_asked_of_who_has_asked(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS_MAX", REQUEST_SECONDS_MAX)
    async with connection(gateway) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await soon(reader.readline())).startswith(b"HTTP/1.1 200")
            assert await silent(reader, 2 * REQUEST_SECONDS_MAX), "closed"


async def silent(reader: StreamReader, seconds: float) -> bool:
    """Whether nothing more comes, and no end either, for so long."""
    try:
        async with asyncio.timeout(seconds):
            while await reader.read(1024):
                continue
    except TimeoutError:
        return True
    return False


@contextmanager
def asking(gateway: Running, user: str, path: str) -> Generator[socket.socket]:
    """A connection that asks for a stream, and of itself reads nothing."""
    where = urlsplit(gateway.url)
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asked.connect((where.hostname, where.port))
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token_for(user)}\r\n\r\n"
        asked.sendall(head.encode())
        asked.setblocking(False)
        yield asked


def rss() -> int:
    return psutil.Process().memory_info().rss


async def test_clients_that_read_nothing(
    gateway: Running, client: Client, worker: Worker, user: str
) -> None:
    attempt, other = await worker.ask(client), await worker.ask(client)
    for _ in range(30):
        await attempt.say(*["x" * 4000] * 20)
    path = f"/v1/jobs/{attempt.lease.job_id}/events"
    feed = gateway.gateway.feed
    async with client.stream_events(f"/v1/jobs/{other.lease.job_id}/events") as reader:
        await reader.take(1)
        before, most = rss(), 0
        with ExitStack() as stack:
            for _ in range(CLIENTS):
                stack.enter_context(asking(gateway, user, path))
            await eventually(lambda: feed.follower_count == CLIENTS + 1)
            began = time.monotonic()
            while feed.follower_count > 1:
                await other.say("on it goes")
                assert len(await soon(reader.take(1))) == 1
                most = max(most, rss())
                assert time.monotonic() - began < 15 * SEND_SECONDS_MAX, "they are still there"
            assert most - before < CLIENTS * BYTES_PER_CLIENT_MAX
        await other.end()
        assert [frame.event for frame in await reader.rest()] == ["done"]


async def test_a_client_that_reads_byte_by_byte(
    gateway: Running, client: Client, worker: Worker, user: str
) -> None:
    attempt = await worker.ask(client)
    for _ in range(10):
        await attempt.say(*["x" * 4000] * 20)
    with asking(gateway, user, f"/v1/jobs/{attempt.lease.job_id}/events") as asked:
        await eventually(lambda: gateway.gateway.feed.follower_count == 1)

        async def gone() -> bool:
            await asyncio.get_running_loop().sock_recv(asked, 1)
            return gateway.gateway.feed.follower_count == 0

        await eventually(gone)


async def test_a_slow_client_that_takes_something_stays(
    gateway: Running, client: Client, worker: Worker
) -> None:
    attempt = await worker.ask(client)
    for _ in range(10):
        await attempt.say(*["x" * 4000] * 20)
    await attempt.end()
    path = f"/v1/jobs/{attempt.lease.job_id}/events"
    async with client.stream_events(path, **STALLING) as stream:
        began = time.monotonic()
        while stream.frames[-1:] == [] or stream.frames[-1].event != "done":
            await stream.take(1)
            if time.monotonic() - began < 3 * SEND_SECONDS_MAX:
                await asyncio.sleep(0.1)  # its pace, which is not waited for anything
    assert [frame.cursor for frame in stream.frames] == list(range(1, 203))


async def test_what_fits_into_the_buffer_is_watched_by_the_kernel(
    gateway: Running,
    client: Client,
    worker: Worker,
    user: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing waits for the client in the gateway, so that nothing there could lose patience."""
    monkeypatch.setattr(
        connections, "_watch_by_kernel", lambda sock: small_buffer(sock, watch_by_kernel)
    )
    monkeypatch.setattr(connections.Patience, "begin", lambda _: None)
    attempt = await worker.ask(client)
    await attempt.say(*["x" * 4000] * 12)
    with asking(gateway, user, f"/v1/jobs/{attempt.lease.job_id}/events"):
        await eventually(lambda: gateway.gateway.feed.follower_count == 1)
        await eventually(lambda: gateway.gateway.feed.follower_count == 0)


async def test_a_silent_connection_is_probed(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes the kernel notice a client that vanished without a word."""
    accepted: list[dict[int, int]] = []

    def watch(sock: Any) -> None:
        watch_by_kernel(sock)
        options = (socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
        accepted.append({o: sock.getsockopt(socket.IPPROTO_TCP, o) for o in options})
        accepted[-1][-1] = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    monkeypatch.setattr(connections, "_watch_by_kernel", watch)
    async with gateway.client(None) as client:
        await client.ok("GET", "/healthz")
    assert accepted == [
        {
            socket.TCP_USER_TIMEOUT: 1000 * SEND_SECONDS_MAX,
            socket.TCP_KEEPIDLE: connections.PROBE_AFTER_SECONDS,
            socket.TCP_KEEPINTVL: connections.PROBE_EVERY_SECONDS,
            -1: 1,
        }
    ]


async def test_a_client_that_vanishes_amid_ten_thousand_events(
    gateway: Running, client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = await worker.ask(client)
    for _ in range(25):
        await attempt.say(*["x" * 100] * 400)
    reads, most = 0, 0.0
    behind = follower.ThreadStream.behind

    async def counted(*args: Any, **more: Any) -> Any:
        nonlocal reads
        reads += 1
        return await behind(*args, **more)

    async def watch_the_loop() -> None:
        nonlocal most
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            most = max(most, time.monotonic() - began)

    monkeypatch.setattr(follower.ThreadStream, "behind", counted)
    watching = asyncio.create_task(watch_the_loop())
    async with client.stream_events(
        f"/v1/jobs/{attempt.lease.job_id}/events", **STALLING
    ) as stream:
        await stream.take(1)
    await eventually(lambda: gateway.gateway.feed.follower_count == 0)
    watching.cancel()
    assert reads < 8
    assert most < LAG_SECONDS_MAX
