"""The model port over HTTP, for every server that speaks Chat Completions.

    stream ─▶ try ──post──▶ 200 ──read──▶ first token ─▶ the caller iterates ─▶ end: connection kept
               ▲             │             │                    │
               └── back-off ◀┴── error ◀───┘                    └─ error, leaving early: aborted

Only the part left of the first token is tried again. What follows it is ``answer_stream``'s.

Failures

- Connecting, the first token and every further token have a bound each. The bound of a whole job is
  the caller's: cancel the task.
- An aborted connection is reset, not closed: a close would wait until a server that does not read
  has taken the rest of the request.
- A server that asks for a longer pause than ``retry_after_seconds_max`` is not asked again.
- Redirects are refusals: the prompt goes where the operator said and nowhere else.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import socket
import struct
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import SimpleNamespace

import aiohttp
import structlog
from yarl import URL

from services.orchestrator.answer_stream import AnswerStream
from services.orchestrator.chat_completions import ChunkDecoder, encode_request, refusal
from services.orchestrator.model import (
    ModelError,
    ModelRefused,
    ModelRequest,
    ModelTimedOut,
    ModelUnreachable,
)
from services.orchestrator.model_limits import ModelLimits, seconds_asked

DNS_CACHE_SECONDS = 60
KEEP_ALIVE_SECONDS = 30.0
ERROR_BODY_SECONDS_MAX = 2.0
ERROR_BODY_BYTES_MAX = 16 * 1024

_HEADERS = {
    "Accept": "text/event-stream, application/json",
    "Accept-Encoding": "identity",  # a proxy that compresses holds tokens back
    "Content-Type": "application/json",
    "User-Agent": "headwater",
}

_LINGER_NOT = struct.pack("ii", 1, 0)  # struct linger: on, for zero seconds

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Connection:
    """What is told about the connection of one request."""

    was_kept: bool = False


async def _note_kept(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    params: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    if isinstance(context.trace_request_ctx, _Connection):
        context.trace_request_ctx.was_kept = True


class _ResettingResponse(aiohttp.ClientResponse):
    """Closing resets the connection, even while the request is still being written."""

    def close(self) -> None:
        connection = self.connection
        if connection is not None and (transport := connection.transport) is not None:
            sock = transport.get_extra_info("socket")
            if sock is not None and not transport.is_closing():
                # Or the kernel would go on offering what the server has not read.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            transport.abort()
        super().close()


def open_session(*, connections_max: int) -> aiohttp.ClientSession:
    """The process's connections to its model servers. Enter it, inside a running loop.

    ``connections_max`` must be at least the number of jobs run at once: each holds a connection
    while it streams, and waiting for one counts as connecting.
    """
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_kept)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections_max,
            ttl_dns_cache=DNS_CACHE_SECONDS,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
        ),
        headers=_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=_ResettingResponse,
        trace_configs=[trace],
    )


class OpenAICompatibleModel:
    """A ``Model`` behind ``{base_url}/chat/completions``.

    ``base_url`` is used as given, such as ``http://127.0.0.1:9000/v1``: nothing is added but
    ``/chat/completions``, with or without a slash between; a query is kept. ``api_key`` is sent as
    a bearer token, unless empty. Raises ValueError for a URL or key that cannot be sent.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        base_url: str,
        api_key: str | None,
        limits: ModelLimits,
    ) -> None:
        self._session = session
        self._url = _endpoint(base_url)
        self._server = f"{self._url.host}:{self._url.port}"
        self._api_key = api_key or ""
        self._limits = limits
        if not (self._api_key.isascii() and self._api_key.isprintable()):
            raise ValueError("the API key of the model holds characters that a header cannot carry")
        self._headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncGenerator[AnswerStream]:
        """See ``Model.stream``."""
        answer = await self._ask(encode_request(request))
        try:
            yield answer
        finally:
            answer.close()

    async def _ask(self, body: bytes) -> AnswerStream:
        for tries in itertools.count(1):
            try:
                return await self._try(body)
            except ModelError as error:
                wait_seconds = self._limits.wait_seconds(tries, error)
                if wait_seconds is None:
                    raise
                log.warning(
                    "model_retried",
                    code=error.code,
                    reason=error.message,
                    tries=tries,
                    wait_seconds=round(wait_seconds, 3),
                )
            await asyncio.sleep(wait_seconds)
        raise AssertionError("unreachable: wait_seconds bounds the tries")

    async def _try(self, body: bytes) -> AnswerStream:
        seconds = self._limits.first_token_seconds
        try:
            async with asyncio.timeout(seconds):
                answer = await self._open(body)
                try:
                    await answer.begin()
                except BaseException:
                    answer.close()
                    raise
                return answer
        except TimeoutError:
            raise ModelTimedOut("first_token", seconds) from None

    async def _open(self, body: bytes) -> AnswerStream:
        connect_seconds = self._limits.connect_seconds
        try:
            response = await self._post(body)
        except aiohttp.ConnectionTimeoutError:
            raise ModelTimedOut("connect", connect_seconds) from None
        except aiohttp.ClientError as error:
            # Never chained: an aiohttp error may carry the request with its Authorization header.
            raise ModelUnreachable(f"{self._server}: {type(error).__name__}") from None
        if response.status != HTTPStatus.OK:
            raise await self._refusal(response)
        return AnswerStream(
            response, ChunkDecoder(self._api_key), self._limits.between_tokens_seconds
        )

    async def _post(self, body: bytes) -> aiohttp.ClientResponse:
        """Post, and once more if the server closed a kept connection just as it was taken."""
        connection = _Connection()
        try:
            return await self._post_once(body, connection)
        except aiohttp.ClientConnectionError:
            if not connection.was_kept:
                raise
        return await self._post_once(body, _Connection())

    async def _post_once(self, body: bytes, connection: _Connection) -> aiohttp.ClientResponse:
        return await self._session.post(
            self._url,
            data=io.BytesIO(body),
            headers=self._headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(connect=self._limits.connect_seconds),
            trace_request_ctx=connection,
        )

    async def _refusal(self, response: aiohttp.ClientResponse) -> ModelRefused:
        body = b""
        try:
            async with asyncio.timeout(ERROR_BODY_SECONDS_MAX):
                body = await response.content.readexactly(ERROR_BODY_BYTES_MAX)
        except asyncio.IncompleteReadError as whole:
            body = whole.partial
        except (TimeoutError, aiohttp.ClientError):
            pass
        finally:
            response.close()
        retry_after = seconds_asked(response.headers.get("Retry-After", ""), now=time.time())
        return refusal(response.status, body, retry_after=retry_after, secret=self._api_key)


def _endpoint(base_url: str) -> URL:
    base = URL(base_url)
    if base.scheme not in ("http", "https") or not base.host:
        raise ValueError("the base URL of the model must be http:// or https:// and name a host")
    if base.user is not None or base.password is not None:
        raise ValueError("the base URL of the model must hold no password: it has an API key")
    return (base / "chat" / "completions").with_query(base.query)
