"""Follows a job to its `done`, over as many connections as it takes.

    connect ──▶ Event, Event, … ──▶ done
       ▲            │ closed, silent, a hole, `reconnect`, 5xx
       └─ back-off ◀┘ Lost          the cursor is the last seq that was passed on

Failures
    Connection lost   Made again with Last-Event-ID, after the wait the server asks for or
                      a back-off with jitter; TRIES_MAX times without a byte, then ConsoleError.
    Event twice       Passed on once.
    Event missing     Read again from the cursor: nothing is passed on behind a hole.
    Refused (4xx)     ConsoleError, with the server's words.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, cast

import aiohttp

from infra.console.errors import ConsoleError, StreamBroken
from infra.console.event_stream import Frame, FrameReader

CONNECT_SECONDS_MAX: Final = 5.0
SILENCE_SECONDS_MAX: Final = 45.0  # three pings of the gateway
BACKOFF_SECONDS: Final = 0.25
BACKOFF_SECONDS_MAX: Final = 5.0
TRIES_MAX: Final = 60  # about five minutes of nobody answering
REFUSED: Final = range(400, 500)
PASSING: Final = frozenset({408, 425, 429})

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the job; ``seq`` is its cursor."""

    seq: int
    type: str
    data: Fields

    @property
    def is_final(self) -> bool:
        return self.type == "done"


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone; the next one is tried in ``seconds``, from ``seq`` on."""

    reason: str
    seq: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """Connected again."""

    seq: int


Sight = Event | Lost | Resumed
Pause = Callable[[float], Awaitable[None]]


class Follower:
    """Iterate ``sights`` once. ``headers`` are asked for before every request."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        headers: Callable[[], Mapping[str, str]],
        pause: Pause,
    ) -> None:
        self._session, self._url = session, url
        self._headers, self._pause = headers, pause
        self._seq = 0
        self._tries = 0  # since the last byte
        self._asked_seconds: float | None = None

    async def sights(self) -> AsyncGenerator[Sight]:
        """What happens, until `done` has been passed on. Raises ConsoleError."""
        again = False
        while True:
            try:
                async with self._connected() as response:
                    if again:
                        yield Resumed(self._seq)
                    async with aclosing(self._events(response)) as events:
                        async for event in events:
                            yield event
                            if event.is_final:
                                return
                raise StreamBroken("the stream ended before `done`")
            except (StreamBroken, aiohttp.ClientError, TimeoutError) as error:
                lost = Lost(_reason(error), self._seq, self._wait_seconds())
            yield lost
            await self._pause(lost.seconds)
            again = True

    def _connected(self) -> Any:
        cursor = {"Last-Event-ID": str(self._seq)} if self._seq else {}
        return self._session.get(
            self._url,
            headers={**self._headers(), **cursor, "Accept": "text/event-stream"},
            timeout=aiohttp.ClientTimeout(
                total=None, connect=CONNECT_SECONDS_MAX, sock_read=SILENCE_SECONDS_MAX
            ),
        )

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncGenerator[Event]:
        if response.status != 200:
            await _refuse(response)
        reader = FrameReader()
        async for data in response.content.iter_any():
            self._tries = 0
            for frame in reader.feed(data):
                event = self._event(frame)
                if event is not None:
                    self._seq = event.seq
                    yield event

    def _event(self, frame: Frame) -> Event | None:
        """The frame's event; None if it was passed on before. Raises StreamBroken."""
        if frame.event == "reconnect":
            self._asked_seconds = None if frame.retry_ms is None else frame.retry_ms / 1000
            raise StreamBroken("the gateway asks to come back")
        try:
            seq, data = int(frame.cursor or ""), json.loads(frame.data)
        except ValueError:
            raise StreamBroken("what came is no event") from None
        if not isinstance(data, dict):
            raise StreamBroken("what came is no event")
        if seq > self._seq + 1:
            raise StreamBroken(f"seq {self._seq + 1} is missing, {seq} came")
        return Event(seq, frame.event, cast("Fields", data)) if seq > self._seq else None

    def _wait_seconds(self) -> float:
        """Before the next try. Raises ConsoleError after the last one."""
        self._tries += 1
        if self._tries > TRIES_MAX:
            raise ConsoleError(f"the gateway does not answer: {TRIES_MAX} tries")
        asked, self._asked_seconds = self._asked_seconds, None
        if asked is not None:
            return min(asked, BACKOFF_SECONDS_MAX)
        backoff = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS * 2 ** (self._tries - 1))
        return random.uniform(backoff / 2, backoff)


async def _refuse(response: aiohttp.ClientResponse) -> None:
    if response.status not in REFUSED or response.status in PASSING:
        raise StreamBroken(f"the gateway answers {response.status}")
    try:
        problem = cast("dict[str, Any]", await response.json(content_type=None))
        words = f"{problem['code']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        words = response.reason or "no reason given"
    raise ConsoleError(f"the gateway refuses ({response.status}, {words})")


def _reason(error: Exception) -> str:
    match error:
        case StreamBroken():
            return str(error)
        case TimeoutError():
            return "nothing was heard for too long"
        case aiohttp.ClientConnectorError():
            return "the gateway cannot be reached"
        case _:
            return f"the connection broke ({type(error).__name__})"
