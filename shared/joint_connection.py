"""One connection that all callers share: commands leave together, and replies come back in order.

    caller A ─ ask ─┐                                            ┌─▶ A's replies
    caller B ─ ask ─┼─▶ what one turn of the loop brings ─▶ Redis ─┼─▶ B's
    caller C ─ ask ─┘    is one write                              └─▶ C's

Redis answers in the order of the questions, so nothing but a queue of who waits is needed: no
connection of its own for each caller, no task, and no round trip in front of another.

What the server says unasked (publishes) goes to ``pushed`` at once, in the turn in which it came.

Failures
    Connection lost    Everybody who waits gets ConnectionError; what was asked may have been done.
    Server silent      For reply_seconds_max while somebody waits: TimeoutError for all, and the
                       connection is given up, for nobody could tell later which reply is whose.
    Caller cancelled   Its replies are dropped when they come.
    Too many wait      WAITING_MAX: ConnectionError, and nothing was sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import hiredis
from redis._parsers import BaseParser
from redis.exceptions import ConnectionError, InvalidResponse, RedisError, TimeoutError

WAITING_MAX: Final = 16_384  # batches of commands
LOOKS: Final = 4  # at a silent server, before it is given up

Command = tuple[Any, ...]
Replies = list[Any]

_NOT_YET: Final = object()


def _packed(command: Command) -> bytes:
    """Raises TypeError for what is neither text, bytes nor a number."""
    name = command[0]
    if isinstance(name, str) and " " in name:  # as the driver names commands of two words
        command = (*name.split(), *command[1:])
    return cast("Any", hiredis).pack_command(command)


class _Batch:
    """Commands of one caller that belong together, and the replies that have come."""

    __slots__ = ("count", "replied", "replies")

    def __init__(self, count: int, replied: asyncio.Future[Replies]) -> None:
        self.count, self.replied = count, replied
        self.replies: Replies = []


class JointConnection(asyncio.Protocol):
    """Takes a connected socket over from the driver, which has greeted the server on it."""

    def __init__(
        self,
        driver: Any,
        *,
        reply_seconds_max: float,
        pushed: Callable[[list[Any]], None] = lambda _: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._driver = driver  # closes the socket when nobody holds it
        self._pushed = pushed
        self._transport = cast("asyncio.Transport", driver._writer.transport)
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=cast("Any", BaseParser).parse_error,
            notEnoughData=_NOT_YET,
        )
        self._waiting: deque[_Batch] = deque()
        self._unsent: list[bytes] = []
        self._lost: Exception | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()  # done when it is
        self._look_seconds = reply_seconds_max / LOOKS
        self._looking: asyncio.TimerHandle | None = None
        self._silent_looks = 0
        self._transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        return self._lost is None and not self._transport.is_closing()

    def ask(self, commands: Sequence[Command]) -> asyncio.Future[Replies]:
        """The replies, errors of the server among them. Raises ConnectionError, TimeoutError."""
        replied: asyncio.Future[Replies] = self._loop.create_future()
        if not self.is_open:
            replied.set_exception(self._lost or ConnectionError("the connection is closed"))
        elif len(self._waiting) >= WAITING_MAX:
            replied.set_exception(ConnectionError(f"{WAITING_MAX} callers wait for replies"))
        else:
            self.tell(commands)
            self._waiting.append(_Batch(len(commands), replied))
            if self._looking is None:
                self._silent_looks = 0
                self._looking = self._loop.call_later(self._look_seconds, self._look)
        return replied

    def tell(self, commands: Sequence[Command]) -> None:
        """Send what brings no reply, as subscriptions do."""
        packed = [_packed(command) for command in commands]
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent += packed

    def give_up(self, error: Exception) -> None:
        """Everybody who waits gets the error, and nobody can ask any more."""
        if self._lost is not None:
            return
        self._lost = error
        self.closed.set_result(None)
        self._transport.abort()
        if self._looking is not None:
            self._looking.cancel()
        for batch in self._waiting:
            if not batch.replied.done():
                batch.replied.set_exception(error)
        self._waiting.clear()
        self._unsent.clear()

    async def aclose(self) -> None:
        self.give_up(ConnectionError("the connection is closed"))
        await self._driver.disconnect(nowait=True)

    # ── called by the loop ─────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        self._silent_looks = 0
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _NOT_YET:
                if isinstance(reply, hiredis.PushNotification):
                    self._pushed(reply)
                else:
                    self._take(reply)
        except RedisError as error:
            self.give_up(ConnectionError(f"{type(error).__name__}: {error}"))

    def eof_received(self) -> None:
        self.give_up(ConnectionError("the server has closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.give_up(ConnectionError(f"the connection is lost: {exc}"))

    def _take(self, reply: Any) -> None:
        if not self._waiting:
            raise reply if isinstance(reply, RedisError) else InvalidResponse("nobody asked")
        batch = self._waiting[0]
        batch.replies.append(reply)
        if len(batch.replies) == batch.count:
            self._waiting.popleft()
            if not batch.replied.done():
                batch.replied.set_result(batch.replies)

    def _send(self) -> None:
        if self._unsent and self._lost is None:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()

    def _look(self) -> None:
        """A loop that is late finds the replies behind this look: so several are needed."""
        self._looking = None
        if not self._waiting:
            return
        self._silent_looks += 1
        if self._silent_looks > LOOKS:
            self.give_up(TimeoutError(f"no reply in {self._look_seconds * LOOKS:g} s"))
        else:
            self._looking = self._loop.call_later(self._look_seconds, self._look)
