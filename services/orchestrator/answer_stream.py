"""An answer while it arrives: reads of one HTTP response become deltas, silence becomes an error.

Time counts against the server only while the caller waits for it: a caller that is busy, or whose
own backend is slow, reads nothing, and TCP stops the server in turn. An event loop that stood still
reads what has come in meanwhile before the server is called silent.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp

from services.orchestrator.chat_completions import ChunkDecoder
from services.orchestrator.model import (
    Completion,
    Delta,
    ModelError,
    ModelInterrupted,
    ModelTimedOut,
)

DRAIN_SECONDS_MAX = 0.1
SECOND_LOOK_SECONDS = 0.05


class AnswerStream:
    """A ``ModelStream`` over one response. Whoever makes one closes it.

    ``silence_seconds_max`` bounds the wait for each delta after the first.
    """

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
        self._doubted_since: float | None = None  # the wait that a first look found too long
        self._timed_out = False

    def __aiter__(self) -> AnswerStream:
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
        since = self._waiting_since
        waited = 0.0 if since is None else now - since
        if waited < self._silence_seconds_max:
            left = self._silence_seconds_max - waited
            self._watch = self._loop.call_later(left, self._check_silence)
        elif since != self._doubted_since:
            # If the loop stood still, timers are due before its sockets have been read.
            self._doubted_since = since
            self._watch = self._loop.call_later(SECOND_LOOK_SECONDS, self._check_silence)
        else:
            self._timed_out = True
            self._response.close()
