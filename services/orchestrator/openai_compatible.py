"""The model port over HTTP, for every server that speaks Chat Completions.

    stream ─▶ try ──post──▶ 200 ──read──▶ first token ─▶ the caller iterates ─▶ end: connection kept
               ▲             │             │                    │
               └── back-off ◀┴── error ◀───┘                    └─ error, leaving early: aborted

Only the part left of the first token is tried again. A caller that pauses stops the reading, and
TCP stops the server; only the time spent waiting for the server counts as its silence.

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
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import aiohttp
import structlog
from yarl import URL

from services.orchestrator.chat_completions import ChunkDecoder, encode_request, refusal
from services.orchestrator.model import (
    Completion,
    Delta,
    ModelError,
    ModelInterrupted,
    ModelRefused,
    ModelRequest,
    ModelTimedOut,
    ModelUnreachable,
)
from services.orchestrator.model_limits import ModelLimits, seconds_asked

DNS_CACHE_SECONDS = 60
KEEP_ALIVE_SECONDS = 30.0
DRAIN_SECONDS_MAX = 0.1
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
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections_max,
            ttl_dns_cache=DNS_CACHE_SECONDS,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
        ),
        headers=_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=_ResettingResponse,
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
        self._api_key = api_key or ""
        self._limits = limits
        if not (self._api_key.isascii() and self._api_key.isprintable()):
            raise ValueError("the API key of the model holds characters that a header cannot carry")
        self._headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncGenerator[_Answer]:
        """See ``Model.stream``."""
        answer = await self._ask(encode_request(request))
        try:
            yield answer
        finally:
            answer.close()

    async def _ask(self, body: bytes) -> _Answer:
        for tries in itertools.count(1):
            try:
                return await self._try(body)
            except ModelError as error:
                wait_seconds = self._limits.wait_seconds(tries, error)
                if wait_seconds is None:
                    raise
                log.warning(
                    "model_retried", code=error.code, tries=tries, wait_seconds=wait_seconds
                )
            await asyncio.sleep(wait_seconds)
        raise AssertionError("unreachable: wait_seconds bounds the tries")

    async def _try(self, body: bytes) -> _Answer:
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

    async def _open(self, body: bytes) -> _Answer:
        connect_seconds = self._limits.connect_seconds
        try:
            response = await self._session.post(
                self._url,
                data=io.BytesIO(body),
                headers=self._headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(connect=connect_seconds),
            )
        except aiohttp.ConnectionTimeoutError:
            raise ModelTimedOut("connect", connect_seconds) from None
        except aiohttp.ClientError as error:
            # Never chained: an aiohttp error may carry the request with its Authorization header.
            raise ModelUnreachable(f"{self._url.authority}: {type(error).__name__}") from None
        if response.status != HTTPStatus.OK:
            raise await self._refusal(response)
        return _Answer(response, ChunkDecoder(self._api_key), self._limits.between_tokens_seconds)

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


class _Answer:
    """A ``ModelStream`` over one response. Whoever makes one closes it."""

    def __init__(
        self, response: aiohttp.ClientResponse, decoder: ChunkDecoder, silence_seconds_max: float
    ) -> None:
        self.completion: Completion | None = None
        self._response = response
        self._read = response.content.readany
        self._decoder = decoder
        self._first: Delta | None = None
        self._loop = asyncio.get_running_loop()
        self._silence_seconds_max = silence_seconds_max
        self._waiting_since: float | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._timed_out = False

    def __aiter__(self) -> _Answer:
        return self

    async def __anext__(self) -> Delta:
        if self._first is not None:
            delta, self._first = self._first, None
            return delta
        self._waiting_since = self._loop.time()
        try:
            delta = await self._next()
        finally:
            self._waiting_since = None
        if delta is None:
            await self._finish()
            raise StopAsyncIteration
        return delta

    async def begin(self) -> None:
        """Wait for the first delta, or the end of an empty answer; then watch for silence."""
        self._first = await self._next()
        if self._first is None:
            self._decoder.end()  # raises here, where the question may still be asked again
        self._watch = self._loop.call_later(self._silence_seconds_max, self._check_silence)

    def close(self) -> None:
        """Drop the connection, unless the whole body was read and it is back in the pool."""
        if self._watch is not None:
            self._watch.cancel()
        self._response.close()

    async def _next(self) -> Delta | None:
        decoder = self._decoder
        while not decoder.ended:
            try:
                data = await self._read()
            except aiohttp.ClientError:
                if decoder.complete:
                    break
                raise self._broken() from None
            delta = decoder.feed(data) if data else decoder.feed_eof()
            if delta is not None:
                return delta
        return None

    def _broken(self) -> ModelError:
        if self._timed_out:
            return ModelTimedOut("between_tokens", self._silence_seconds_max)
        return ModelInterrupted("closed")

    async def _finish(self) -> None:
        """Set ``completion``, and read on to the end of the body so that the pool may reuse it."""
        self.completion = self._decoder.end()
        with suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                while await self._read():
                    pass

    def _check_silence(self) -> None:
        """One timer per answer: setting one per token would cost more than reading the token."""
        now = self._loop.time()
        waited = 0.0 if self._waiting_since is None else now - self._waiting_since
        if waited < self._silence_seconds_max:
            left = self._silence_seconds_max - waited
            self._watch = self._loop.call_later(left, self._check_silence)
        else:
            self._timed_out = True
            self._response.close()


def _endpoint(base_url: str) -> URL:
    base = URL(base_url)
    if base.scheme not in ("http", "https") or not base.host:
        raise ValueError("the base URL of the model must be http:// or https:// and name a host")
    return (base / "chat" / "completions").with_query(base.query)
