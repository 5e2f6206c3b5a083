"""A WebSocket's connection: uvicorn's, with bounds on what a client makes it hold or wait for.

    frames of the client ──▶ FRAMES_WAITING_MAX ──▶ application ──▶ write buffer ──▶ client
       a page of fragments     more: 1008                             full: watched

Reading stops while a frame waits for the application, so one that is busy is not talked over; what
came in the same read waits here. Without compression a connection holds no windows of it, and a
small frame cannot become a large one.

Failures
    Client takes nothing    As any client's connection (connections.py), but it is told: 4408, in
                            case it reads on, and aborted CLOSE_SECONDS_MAX later.
    Client shows no life    A ping every PING_SECONDS, PONG_SECONDS_MAX without its answer: 4408.
    Client pings only       What answers it would fill the buffer: left out while that is full.
    No handshake            What httptools takes for one and the library does not, such as a line
                            of more than 8 KiB: 400.
    Frame too large         1009. The rest of it is read and dropped, so that the code arrives: who
                            closes on unread bytes resets the connection instead.
    Gateway goes            1012.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from services.api import connections
from services.api.close_codes import FLOODING, IDLE, RESTARTING, SLOW, TOO_LARGE, Close
from services.api.connections import Patience

PING_SECONDS: Final = 30.0
PONG_SECONDS_MAX: Final = 30.0
CLOSE_SECONDS_MAX: Final = 2.0  # for a client to answer a close
SEND_BUFFER_BYTES: Final = 128 * 1024  # the kernel's; left alone, it would grow to megabytes
KERNEL_PATIENCE: Final = 3  # times a client's, which begins when its buffer is full
FRAMES_WAITING_MAX: Final = 64
FRAGMENTS_MAX: Final = 1024  # of one frame
NO_HANDSHAKE: Final = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class SocketConnection(WebSocketsSansIOProtocol):
    """uvicorn's, with ends."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.close_timeout = CLOSE_SECONDS_MAX
        # Theirs writes down addresses, in which tickets stand, and what frames say.
        self.logger = self.conn.logger = logging.getLogger("uvicorn.websocket")
        self.conn.debug = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- as uvicorn's does
        super().connection_made(transport)
        self._patience = Patience(self.loop, transport, self._give_up)
        kernel: socket.socket = transport.get_extra_info("socket")
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if sys.platform == "linux":  # ours ends first, with a word: the kernel's has none
            patience_ms = round(KERNEL_PATIENCE * connections.SEND_SECONDS_MAX * 1000)
            kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience.begin()

    def resume_writing(self) -> None:
        self._patience.end()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(NO_HANDSHAKE)
            self.transport.close()

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self._close(RESTARTING)
        elif not self.close_sent:
            super().shutdown()

    def keepalive_timeout(self) -> None:
        self._close(IDLE)

    def handle_ping(self) -> None:
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pong)

    def handle_cont(self, event: Any) -> None:
        if len(self.frames) >= FRAGMENTS_MAX:
            self.frames = []
            self._close(TOO_LARGE)
        elif not self.close_sent:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self.queue.qsize() >= FRAMES_WAITING_MAX:
            self._close(FLOODING)
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Tell why, and drop what still comes."""
        told = self.conn.close_sent
        if told is None:  # not even a handshake
            self.transport.close()
        elif self.close_timer is None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": told.code})
            self._send_close()
            self.transport.write_eof()  # its answer, among what is dropped, is not waited for

    async def send(self, message: Any) -> None:
        if self.handshake_complete and self.close_sent:
            raise ClientDisconnected()  # the application does not know yet
        await super().send(message)

    def _give_up(self) -> None:
        self._close(SLOW)

    def _close(self, close: Close) -> None:
        """End from this side, whatever the application does."""
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.send_close(close.code, close.reason)
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
        )
        self._send_close()

    def _send_close(self) -> None:
        self.stop_keepalive()
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSE_SECONDS_MAX, self.transport.abort)
