"""A WebSocket client that keeps what it read, and may read slowly or not at all."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

READ_SECONDS_MAX = 15.0

Frame = dict[str, Any]


@dataclass
class Socket:
    """Enter it to connect. ``frames`` are all that were read."""

    url: str
    headers: dict[str, str] = field(default_factory=dict[str, str])
    origin: str | None = None
    is_stalling: bool = False  # reads nothing but what it is asked for, with small buffers
    answers_pings: bool = True
    frames: list[Frame] = field(default_factory=list[Frame])
    connection: ClientConnection = field(init=False)

    async def __aenter__(self) -> Self:
        host, port = self.url.removeprefix("http://").partition("/")[0].split(":")
        made = socket.create_connection((host, int(port)))
        if self.is_stalling:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        made.setblocking(False)
        self.connection = await connect(
            "ws" + self.url.removeprefix("http"),
            additional_headers=self.headers,
            origin=self.origin,  # pyright: ignore[reportArgumentType] -- a type for any text
            sock=made,
            compression=None,
            ping_interval=None,
            max_queue=1 if self.is_stalling else 1024,
            open_timeout=READ_SECONDS_MAX,
            close_timeout=0.2,
            proxy=None,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.connection.close_code is None:
            await self.connection.close()

    async def send(self, kind: str, **fields: Any) -> None:
        await self.send_text(json.dumps({"type": kind, **fields}))

    async def send_text(self, text: str | bytes) -> None:
        await self.connection.send(text)

    async def next(self) -> Frame | None:
        """The next frame; None when the socket is closed. AssertionError when neither comes."""
        try:
            async with asyncio.timeout(READ_SECONDS_MAX):
                text = await self.connection.recv(decode=True)
        except ConnectionClosed:
            return None
        except TimeoutError:
            raise AssertionError(f"nothing came after {self.frames[-1:]}") from None
        self.frames.append(frame := json.loads(text))
        return frame

    async def until(self, wanted: str | Callable[[Frame], bool]) -> Frame:
        """The next frame of a type, or of which something holds; those before it are kept."""
        holds = (lambda frame: frame["type"] == wanted) if isinstance(wanted, str) else wanted
        while (frame := await self.next()) is not None:
            if holds(frame):
                return frame
        raise AssertionError(f"closed with {self.closed} before it came: {self.frames[-3:]}")

    async def take(self, count: int) -> list[Frame]:
        """The next logged frames, others left out."""
        return [await self.until(lambda frame: "position" in frame) for _ in range(count)]

    async def rest(self) -> list[Frame]:
        """All frames to the close."""
        read: list[Frame] = []
        while (frame := await self.next()) is not None:
            read.append(frame)
        return read

    async def end(self) -> tuple[int | None, str | None]:
        """Why it was closed, once it is."""
        await self.rest()
        return self.closed

    @property
    def closed(self) -> tuple[int | None, str | None]:
        return self.connection.close_code, self.connection.close_reason

    @property
    def logged(self) -> list[Frame]:
        return [frame for frame in self.frames if "position" in frame]

    @property
    def position(self) -> int:
        return max((frame["position"] for frame in self.logged), default=0)


def socket_of(client: Any, thread_id: str, **query: Any) -> Socket:
    """A socket of an HTTP client's user and gateway."""
    more = f"?{urlencode(query)}" if query else ""
    headers = {"Authorization": client.headers["Authorization"]}
    if "X-Session-Id" in client.headers:
        headers["X-Session-Id"] = client.headers["X-Session-Id"]
    base = str(client.base_url).rstrip("/")
    return Socket(f"{base}/v1/threads/{thread_id}/ws{more}", headers)
