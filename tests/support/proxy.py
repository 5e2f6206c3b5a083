"""A TCP proxy on loopback that misbehaves when asked to: for tests of what a bad network does.

    client ──▶ Proxy ──▶ server        async with Proxy("127.0.0.1", port) as proxy:
           ◀── fault ◀──                   proxy.on_reply(Fault.DROP, to=b"EVALSHA")

A reply is what the server sends after the client has sent something. A fault meets one reply, and
then the connection it came over: everything else passes. `to` picks replies to requests that hold
these bytes, `nth` counts them over all connections from the moment of asking.

Failures: a connection whose other side goes is closed; the proxy itself goes on listening.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

CHUNK_BYTES_MAX: Final = 64 << 10
REQUEST_BYTES_MAX: Final = 256 << 10  # of a request that are searched for `to`


class Fault(Enum):
    DROP = auto()  # the server did the work; the client gets an end of stream instead of a reply
    CUT = auto()  # the client gets half of the reply, then an end of stream
    HOLE = auto()  # the client hears nothing from this reply on, and nothing closes


class Way(Enum):
    REQUESTS = auto()  # from the clients to the server
    REPLIES = auto()


@dataclass(slots=True)
class _Plan:
    fault: Fault
    to: bytes
    left: int


class Proxy:
    """Between clients and one server. `faults_met` counts the faults that have happened."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._plan: _Plan | None = None
        self._passing = {way: asyncio.Event() for way in Way}
        self.heal()
        self.faults_met = 0
        self.delay_seconds = 0.0  # before every chunk, in both directions
        self.chunk_bytes = CHUNK_BYTES_MAX  # 1 sends replies byte by byte
        self.refuses = False  # new connections are closed at once

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.heal()
        self.cut_all()
        await asyncio.gather(*(connection.ended.wait() for connection in self._connections))
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.sockets[0].getsockname()[1]

    def url(self, server_url: str) -> str:
        """The same address, by way of the proxy."""
        parts = urlsplit(server_url)
        credentials = parts.netloc.rpartition("@")[0]
        place = f"{credentials}@127.0.0.1:{self.port}" if credentials else f"127.0.0.1:{self.port}"
        return parts._replace(netloc=place).geturl()

    def on_reply(self, fault: Fault, *, to: bytes = b"", nth: int = 1) -> None:
        """Let one reply meet a fault: the nth from now to a request that holds `to`."""
        self._plan = _Plan(fault, to, nth)

    def black_hole(self, *ways: Way) -> None:
        """Let nothing pass, these ways or both, on any connection, and close nothing."""
        for way in ways or Way:
            self._passing[way].clear()

    def heal(self) -> None:
        """Let everything pass again; what was held back arrives now."""
        self.refuses, self._plan = False, None
        for passing in self._passing.values():
            passing.set()

    def cut_all(self) -> None:
        """Close every connection at once."""
        for connection in list(self._connections):
            connection.close()

    def next_fault(self, request: bytes) -> Fault | None:
        """The fault that the reply to this request meets."""
        plan = self._plan
        if plan is None or plan.to not in request:
            return None
        plan.left -= 1
        if plan.left:
            return None
        self._plan = None
        self.faults_met += 1
        return plan.fault

    async def passage(self, way: Way) -> None:
        """Wait until the next chunk may go on."""
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        await self._passing[way].wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.close()
            return
        try:
            upstream = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        connection = _Connection(self, (reader, writer), upstream)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """One client's connection and the one to the server that stands for it."""

    def __init__(self, proxy: Proxy, client: Streams, server: Streams) -> None:
        self._proxy = proxy
        self._client, self._server = client, server
        self._request = bytearray()  # what the client has sent since the last reply began
        self.ended = asyncio.Event()

    async def run(self) -> None:
        requests = asyncio.create_task(self._requests())
        replies = asyncio.create_task(self._replies())
        try:
            await asyncio.wait({requests, replies}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.close()
            for task in (requests, replies):
                task.cancel()
            await asyncio.gather(requests, replies, return_exceptions=True)
            for _, writer in (self._client, self._server):
                with suppress(OSError):
                    await writer.wait_closed()
            self.ended.set()

    def close(self) -> None:
        for _, writer in (self._client, self._server):
            writer.close()

    async def _requests(self) -> None:
        while chunk := await self._client[0].read(CHUNK_BYTES_MAX):
            self._request += chunk[: max(REQUEST_BYTES_MAX - len(self._request), 0)]
            await self._proxy.passage(Way.REQUESTS)
            await self._send(self._server[1], chunk)

    async def _replies(self) -> None:
        while chunk := await self._server[0].read(CHUNK_BYTES_MAX):
            fault = None
            if self._request:
                fault = self._proxy.next_fault(bytes(self._request))
                self._request.clear()
            if fault is Fault.HOLE:
                await asyncio.Event().wait()
            if fault is Fault.CUT:
                await self._send(self._client[1], chunk[: (len(chunk) + 1) // 2])
            if fault is not None:
                return
            await self._proxy.passage(Way.REPLIES)
            await self._send(self._client[1], chunk)

    async def _send(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        step = self._proxy.chunk_bytes
        for start in range(0, len(chunk), step):
            writer.write(chunk[start : start + step])
            await writer.drain()
