"""A client's connection: what HTTP/1.1 forbids is refused, and who says nothing is given up.

    application ──▶ send() ──▶ write buffer ──▶ kernel ──▶ client
                      waits     full: watched     acknowledged, or closed

A stream is written as fast as its client takes it: with a full buffer ``send`` waits, and whoever
writes with it. So a client costs what its buffers hold, for as long as its connection lasts. One
that says less than a whole request costs a connection.

Failures
    Request is malformed   Answered with a problem, unless an answer is under way, and closed: what
                           stands behind it may be half of another request. So is one with a head
                           of more than HEAD_BYTES_MAX, before all of it has come.
    Client does not ask    From the connection, or a request's first byte, on it has
                           REQUEST_SECONDS_MAX for a whole request: aborted. A body that comes with
                           BODY_BYTES_MIN in that time is given as much again. An idle connection
                           that has asked before is uvicorn's to close.
    Client takes nothing   Its buffer stays full and does not shrink for SEND_SECONDS_MAX: aborted.
                           Closing would wait until it has taken the rest. Until the buffer is full
                           the kernel watches: what it sent must be acknowledged in the same time.
    Client vanished        Without FIN or RST. The pings of a stream are not acknowledged: closed by
                           the kernel. A connection on which nothing is sent is probed.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.api.answer_fields import FIELDS, NOT_KEPT
from services.api.event_response import FAREWELL, Farewell
from services.api.problems import PROBLEM_JSON, problem
from shared.observability import get_logger

SEND_SECONDS_MAX: Final = 30.0  # in which a client must take something of what waits for it
HEAD_BYTES_MAX: Final = 32 * 1024  # of a request's line and fields
FIELDS_MAX: Final = 100  # of a request
REQUEST_SECONDS_MAX: Final = 30.0  # in which a request must have come with all of its body
BODY_BYTES_MIN: Final = 64 * 1024  # in as long, of a body that takes longer
PROBE_AFTER_SECONDS: Final = 15  # of silence
PROBE_EVERY_SECONDS: Final = 5

MALFORMED: Final = ("malformed_request", "The request is not HTTP/1.1 as it should be.")
TOO_LARGE: Final = ("head_too_large", "The request's line and header fields are too long.")

log = get_logger()


class _Refused(Exception):
    """A request that the parser would let pass."""


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
    """uvicorn's, with an end to its patience.

    In slots: with so many names in its dictionary each connection would have one of its own size.
    """

    __slots__ = (
        "_body_bytes",
        "_farewell",
        "_fields",
        "_in_head",
        "_patience",
        "_refusal",
        "_request_due",
        "_said_bytes",
        "_unread_bytes",
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._request_due: asyncio.TimerHandle | None = None
        self._in_head = False
        self._said_bytes = 0  # by a request, its body apart
        self._unread_bytes = 0  # that came since the parser had last something to say
        self._fields = 0
        self._refusal = MALFORMED
        self._body_bytes = 0  # since the request was last looked at

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] -- as uvicorn's does
        super().connection_made(transport)
        self._patience = Patience(self.loop, transport, transport.abort)
        self._farewell = Farewell()
        _watch_by_kernel(transport.get_extra_info("socket"))
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        """The parser keeps what is not complete: that must not be any amount."""
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refusal = TOO_LARGE
            self.send_400_response("")

    def on_message_begin(self) -> None:
        self._in_head, self._said_bytes, self._fields = True, 0, 0
        super().on_message_begin()
        cast("Any", self.scope)["extensions"] = {FAREWELL: self._farewell}
        self._expect_request()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Fields behind the body are counted, and nothing else: nobody looks for them there."""
        self._fields += 1
        self._count(len(name) + len(value))
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._check_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread_bytes = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def _count(self, said: int) -> None:
        """Raises what the parser makes an error of."""
        self._unread_bytes = 0
        self._said_bytes += said
        if self._said_bytes > HEAD_BYTES_MAX or self._fields > FIELDS_MAX:
            self._refusal = TOO_LARGE
            raise _Refused

    def _check_head(self) -> None:
        """Raises for a head that means one thing here and another thing elsewhere."""
        names = [name for name, _ in self.headers]
        version = cast("Any", self.parser).get_http_version()
        if version not in ("1.0", "1.1"):
            raise _Refused
        if names.count(b"host") > 1 or (b"host" not in names and version == "1.1"):
            raise _Refused  # RFC 9112 §3.2
        is_chunked = b"transfer-encoding" in names
        if is_chunked and (b"content-length" in names or version == "1.0"):
            raise _Refused  # RFC 9112 §6.1: two ways to find its end

    def send_400_response(self, msg: str) -> None:
        """What cannot be understood is answered where its answer would stand, and then the end."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        is_free = cycle is None or cycle.response_complete
        is_its_body = cycle is not None and cycle.more_body and not cycle.response_started
        if is_free or (is_its_body and not self.pipeline):
            self.transport.write(_refusal(*self._refusal))
        self.transport.close()

    def on_message_complete(self) -> None:
        self._unread_bytes = 0
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
        self._farewell.say()

    def _expect_request(self) -> None:
        if self._request_due is None:
            self._body_bytes = 0
            self._request_due = self.loop.call_later(REQUEST_SECONDS_MAX, self._give_up)

    def _stop_expecting(self) -> None:
        if self._request_due is not None:
            self._request_due.cancel()
            self._request_due = None

    def _give_up(self) -> None:
        if self._body_bytes >= BODY_BYTES_MIN:
            self._request_due = None
            self._expect_request()
            return
        log.info("client does not finish its request", seconds=REQUEST_SECONDS_MAX)
        self.transport.abort()


def _refusal(code: str, detail: str) -> bytes:
    """A problem on the wire, from before there is a request."""
    answer = problem(code, detail)
    status = HTTPStatus(answer.status_code)
    fields = {
        b"content-type": PROBLEM_JSON.encode(),
        b"content-length": b"%d" % len(answer.content),
        b"connection": b"close",
        b"x-request-id": secrets.token_hex(8).encode(),
        **FIELDS,
        **dict([NOT_KEPT]),
    }
    head = b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode())
    lines = b"".join(b"%b: %b\r\n" % field for field in fields.items())
    return head + lines + b"\r\n" + answer.content


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
