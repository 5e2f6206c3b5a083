"""A client that costs next to nothing: one HTTP request, its answer's chunks and their times."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

STREAM_SECONDS_MAX = 120.0
_DELTAS = re.compile(rb'"deltas":(\d+)')


@dataclass(frozen=True, slots=True)
class Answer:
    """One stream as its client saw it; times are seconds from the request."""

    first_token_seconds: float
    whole_seconds: float
    tokens: int
    events: int
    body: bytes


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, first_token: bytes) -> None:
        self._request, self._first_token = request, first_token
        self._chunks: list[bytes] = []
        self._first_at: float | None = None
        self._began = 0.0
        self.done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        if self._first_at is None and self._first_token in data:
            self._first_at = time.perf_counter()
        if data.endswith(b"0\r\n\r\n"):
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError(b"".join(self._chunks)[:300]))

    def _finish(self) -> None:
        ended = time.perf_counter()
        body = b"".join(self._chunks)
        if not self.done.done():
            self.done.set_result(
                Answer(
                    first_token_seconds=(self._first_at or ended) - self._began,
                    whole_seconds=ended - self._began,
                    tokens=sum(int(n) for n in _DELTAS.findall(body)),
                    events=body.count(b"\nevent: "),
                    body=body,
                )
            )
        self._transport.close()


async def post(url: str, body: bytes, *, token: str = "", first_token: bytes) -> Answer:
    """POST on a connection of its own and read the streamed answer to its end."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: _Connection(head.encode() + body, first_token),
        parts.hostname or "127.0.0.1",
        parts.port or 80,
    )
    async with asyncio.timeout(STREAM_SECONDS_MAX):
        return await connection.done
