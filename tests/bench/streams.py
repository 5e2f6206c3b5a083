"""A client that costs next to nothing: one HTTP request, its answer's chunks and their times.

Nothing is looked at while an answer comes in but where it ends: what it says is read afterwards
(``read_tokens``), when nobody is waiting for a core.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from tests.support.model_script import STAMPS

STREAM_SECONDS_MAX = 120.0
LAST_CHUNK = b"0\r\n\r\n"
MICROSECONDS = 1e6
_SAID = re.compile(rb'event: token\ndata: [^\n]*"content":"([^"]*)"')  # other events quote it
_STAMP = re.compile(rb"(\d{9}) ")
_EVENT = b"\nevent: "


@dataclass(frozen=True, slots=True)
class Request:
    host: str
    port: int
    data: bytes

    @classmethod
    def of(cls, method: str, url: str, *, token: str = "", body: bytes = b"") -> Request:
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return cls(parts.hostname or "127.0.0.1", parts.port or 80, head.encode() + body)


@dataclass(frozen=True, slots=True)
class Answer:
    """One stream as its client saw it. Times are seconds of CLOCK_MONOTONIC, as the model's are.

    ``chunks`` are what came in at once, each with its time.
    """

    began: float
    ended: float
    chunks: list[tuple[float, bytes]]

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.chunks)

    @property
    def events(self) -> int:
        return self.body.count(_EVENT)


@dataclass(frozen=True, slots=True)
class TokenTimes:
    sent: float  # by the model server
    arrived: float  # at the client


def read_tokens(answer: Answer) -> list[TokenTimes]:
    """Every token of an answer by a model that stamps them (``model_script``)."""
    body = answer.body
    arrivals = _arrivals(answer)
    reached, arrived = next(arrivals)
    times: list[TokenTimes] = []
    for said in _SAID.finditer(body):
        for stamp in _STAMP.finditer(body, said.start(1), said.end(1)):
            while reached < stamp.end():
                reached, arrived = next(arrivals)
            took = (int(arrived * MICROSECONDS) - int(stamp[1])) % STAMPS / MICROSECONDS
            times.append(TokenTimes(arrived - took, arrived))
    return times


def _arrivals(answer: Answer) -> Iterator[tuple[int, float]]:
    """How much of the body had come, and when."""
    reached = 0
    for arrived, data in answer.chunks:
        reached += len(data)
        yield reached, arrived


class Refused(ConnectionError):
    """The answer is not a stream."""


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self._request = request
        self._chunks: list[tuple[float, bytes]] = []
        self._began = 0.0
        self.done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._began = time.monotonic()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._chunks.append((time.monotonic(), data))
        if len(data) < len(LAST_CHUNK) and len(self._chunks) > 1:
            data = self._chunks[-2][1] + data
        if data.endswith(LAST_CHUNK):
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError(f"cut: {self._start!r}"))

    def _finish(self) -> None:
        if not self.done.done():
            if b" 200 " in self._start:
                ended = self._chunks[-1][0]
                self.done.set_result(Answer(self._began, ended, self._chunks))
            else:
                self.done.set_exception(Refused(f"{self._start!r}"))
        self._transport.close()

    @property
    def _start(self) -> bytes:
        return self._chunks[0][1][:300] if self._chunks else b""


async def stream(request: Request) -> Answer:
    """Send it on a connection of its own and read the streamed answer to its end.

    Raises Refused, ConnectionError, TimeoutError.
    """
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: _Connection(request.data), request.host, request.port
    )
    async with asyncio.timeout(STREAM_SECONDS_MAX):
        return await connection.done
