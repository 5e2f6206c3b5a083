"""A client's connection, given up when nothing comes through it any more.

    application ──▶ send() ──▶ write buffer ──▶ kernel ──▶ client
                      waits     full: watched     acknowledged, or closed

A stream is written as fast as its client takes it: with a full buffer ``send`` waits, and whoever
writes with it. So a client costs what its buffers hold, for as long as its connection lasts. One
that says less than a whole request costs a connection.

Failures
    Client does not ask    From the connection, or a request's first byte, on it has
                           REQUEST_SECONDS_MAX for a whole request: aborted. An idle connection that
                           has asked before is uvicorn's to close.
    Client takes nothing   Its buffer stays full and does not shrink for SEND_SECONDS_MAX: aborted.
                           Closing would wait until it has taken the rest. Until the buffer is full
                           the kernel watches: what it sent must be acknowledged in the same time.
    Client vanished        Without FIN or RST. The pings of a stream are not acknowledged: closed by
                           the kernel. A connection on which nothing is sent is probed.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.observability import get_logger

SEND_SECONDS_MAX: Final = 30.0  # in which a client must take something of what waits for it
REQUEST_SECONDS_MAX: Final = 30.0  # in which a request must have come with all of its body
PROBE_AFTER_SECONDS: Final = 15  # of silence
PROBE_EVERY_SECONDS: Final = 5

log = get_logger()


class Patience:
    """With a client whose buffer is full: ``over`` is called once it has taken nothing for long."""

    __slots__ = ("_loop", "_over", "_timer", "_transport")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        over: Callable[[], None],
    ) -> None:
        self._loop, self._transport, self._over = loop, transport, over
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        waiting_bytes = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(SEND_SECONDS_MAX, self._look, waiting_bytes)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, bytes_before: int) -> None:
        """Nothing is written meanwhile: a smaller buffer means that the client took something."""
        if self._transport.get_write_buffer_size() < bytes_before:
            self.begin()
            return
        log.info("client takes nothing", seconds=SEND_SECONDS_MAX)
        self._over()


class ClientConnection(HttpToolsProtocol):
    """uvicorn's, with an end to its patience."""

    _request_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- as uvicorn's does
        super().connection_made(transport)
        self._patience = Patience(self.loop, transport, transport.abort)
        _watch_by_kernel(transport.get_extra_info("socket"))
        self._expect_request()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_request()

    def on_message_complete(self) -> None:
        self._stop_expecting()
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience.begin()

    def resume_writing(self) -> None:
        self._patience.end()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.end()
        self._stop_expecting()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        if self._request_due is None:
            self._request_due = self.loop.call_later(REQUEST_SECONDS_MAX, self._give_up)

    def _stop_expecting(self) -> None:
        if self._request_due is not None:
            self._request_due.cancel()
            self._request_due = None

    def _give_up(self) -> None:
        log.info("client does not finish its request", seconds=REQUEST_SECONDS_MAX)
        self.transport.abort()


def _watch_by_kernel(connection: socket.socket) -> None:
    """What was sent must be taken in time, and a silent connection answer to probes."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        options = {
            socket.TCP_USER_TIMEOUT: round(SEND_SECONDS_MAX * 1000),
            socket.TCP_KEEPIDLE: PROBE_AFTER_SECONDS,
            socket.TCP_KEEPINTVL: PROBE_EVERY_SECONDS,
        }
        for option, value in options.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
