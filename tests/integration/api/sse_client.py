"""A client of Server-Sent Events that keeps what it read, and may read slowly or not at all."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp

from shared.codec import Record

READ_SECONDS_MAX = 15.0


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as a browser sees it, or a comment, whose text stands in ``comment``."""

    id: str | None = None
    event: str | None = None
    data: str | None = None
    retry: str | None = None
    comment: str | None = None

    @property
    def cursor(self) -> int:
        assert self.id is not None, self
        return int(self.id)

    def json(self) -> Any:
        assert self.data is not None, self
        return json.loads(self.data)


@dataclass
class Stream:
    """Iterate to read frame by frame; ``frames`` are all that were read."""

    url: str
    headers: dict[str, str]
    method: str = "GET"
    json: Any = None
    socket_buffer_bytes: int | None = None  # a small one makes a client that stalls soon felt
    frames: list[Frame] = field(default_factory=list[Frame])
    ended_cleanly: bool | None = None  # None: it has not ended
    _unread: bytearray = field(default_factory=bytearray)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(socket_factory=self._socket),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=self.socket_buffer_bytes or 1 << 16,
        )
        try:
            async with asyncio.timeout(READ_SECONDS_MAX):
                self.response = await self._session.request(
                    self.method, self.url, headers=self.headers, json=self.json
                )
            assert self.response.status == 200, await self.response.text()
            assert self.response.content_type == "text/event-stream"
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Vanish: the connection is closed whatever was still to come."""
        self.response.close()
        await self._session.close()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while (frame := await self.next_frame()) is not None:
            yield frame

    async def next_frame(self) -> Frame | None:
        """The next frame, None when the body ends. AssertionError when neither comes in time."""
        try:
            async with asyncio.timeout(READ_SECONDS_MAX):
                searched = 0
                while (end := self._unread.find(b"\n\n", searched)) < 0:
                    searched = max(0, len(self._unread) - 1)
                    chunk = await self.response.content.readany()
                    if not chunk:
                        assert not self._unread, "a frame was cut"
                        self.ended_cleanly = True
                        return None
                    self._unread += chunk
        except aiohttp.ClientPayloadError:
            self.ended_cleanly = False
            return None
        except TimeoutError:
            raise AssertionError(f"nothing came after {self.frames[-1:]}") from None
        block = self._unread[:end].decode()
        del self._unread[: end + 2]
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            assert (name or "comment") not in fields, "a field twice in one frame"
            fields[name or "comment"] = value
        self.frames.append(frame := Frame(**fields))
        return frame

    async def take(self, count: int) -> list[Frame]:
        """The next events, comments left out."""
        taken: list[Frame] = []
        while len(taken) < count:
            frame = await self.next_frame()
            assert frame is not None, f"the body ended after {len(taken)} of {count} events"
            if frame.comment is None:
                taken.append(frame)
        return taken

    async def rest(self) -> list[Frame]:
        """All events to the end of the body, comments left out."""
        return [frame async for frame in self if frame.comment is None]

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        if self.socket_buffer_bytes is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.socket_buffer_bytes)
        return made


def as_seen(records: list[Record], *, by_seq: bool) -> list[tuple[int, str, str]]:
    """What frames of these records must hold: cursor, type, data to the letter."""
    return [(r.seq if by_seq else r.position, r.type, r.data.decode()) for r in records]


def seen(frames: list[Frame]) -> list[tuple[int, str | None, str | None]]:
    return [(frame.cursor, frame.event, frame.data) for frame in frames]
