"""Connections to the primary that sentinels name: all of a pool to the same one.

    connection ─▶ look: all sentinels at once ─▶ primary ─▶ connect, greet, notice
                     ▲                             │
    each second ─────┘                             └─ another, of a newer configuration ─▶ hang up
                                                      on the former: who used it connects again

A primary that dies has closed its connections. One that hands over by command takes writes until
sentinels demote it, some ten seconds later. If each connection asked for itself, some would write
there and some to the successor, and a partition would be restored with halves of both. So a pool
has one primary at a time, and never goes back: sentinels hear of a failover one after the other,
but its configuration has a number (*epoch*), and what is older than what is known is not believed.

Failures
    No sentinel answers   Or none knows a primary that is well: new connections fail
                          (ConnectionError), and the call is repeated as for a server that is away.
                          Those that there are go on.
    Sentinels made anew   Their numbers begin anew too: believed when most of them say so.
    Primary cut off       Together with clients of its own: it takes writes until these learn of the
                          other one, and they are lost, unless it is told to stop by itself
                          (``min-replicas-to-write``).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, cast
from weakref import WeakSet

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError

from shared.cancellation import end_tasks
from shared.observability import get_logger
from shared.redis_urls import Address, RedisUrl

ASK_SECONDS_MAX: Final = 1.0  # of one sentinel
LOOK_SECONDS: Final = 1.0
END_SECONDS_MAX: Final = 1.0

log = get_logger()


class _Word(NamedTuple):
    """What a sentinel says of the primary."""

    epoch: int
    address: Address


class _Primary:
    """Who it is, for one pool."""

    def __init__(self, open_sentinels: Callable[[], Sentinel], service: str) -> None:
        self.connections: WeakSet[_ToPrimary] = WeakSet()
        self.known: _Word | None = None
        self._open, self._service = open_sentinels, service
        self._sentinels: Sentinel | None = None
        self._asking: set[asyncio.Task[_Word | None]] = set()
        self._look: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def find(self) -> Address:
        """Its address, as sentinels say now. Raises ConnectionError."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._look_again(), name="sentinels.watch")
        if self._look is None:
            self._look = asyncio.create_task(self._look_around(), name="sentinels.look")
            self._look.add_done_callback(_seen)
        await asyncio.shield(self._look)
        return cast("_Word", self.known).address

    async def aclose(self) -> None:
        tasks = [task for task in (self._watch, self._look, *self._asking) if task is not None]
        self._watch = None
        await end_tasks(tasks, seconds_max=END_SECONDS_MAX)
        sentinels, self._sentinels = self._sentinels, None
        if sentinels is not None:
            await sentinels.aclose()

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.find()
            except ConnectionError as error:
                log.debug("sentinels tell nothing", reason=str(error))

    async def _look_around(self) -> None:
        """Until a sentinel is believed; the words of the others count when they come."""
        try:
            self._sentinels = self._sentinels or self._open()
            sentinels = cast("list[Redis]", cast("Any", self._sentinels).sentinels)
            left = {asyncio.create_task(self._ask(one), name="sentinels.ask") for one in sentinels}
            self._asking |= left
            for asking in left:
                asking.add_done_callback(self._asking.discard)
            words: list[_Word] = []
            while left:
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                words += [word for task in done if (word := task.result())]
                if any(self._is_believed(word) for word in words):
                    return
            if 2 * len(words) <= len(sentinels):
                raise ConnectionError("no sentinel names a primary that is well")
            self._follow(max(words))
        finally:
            self._look = None

    async def _ask(self, sentinel: Redis) -> _Word | None:
        try:
            async with asyncio.timeout(ASK_SECONDS_MAX):
                services = await cast("Any", sentinel).sentinel_masters()
        except (RedisError, TimeoutError) as error:
            log.debug("a sentinel tells nothing", reason=str(error))
            return None
        state = services.get(self._service)
        if state is None or not state["is_master"] or state["is_sdown"] or state["is_odown"]:
            return None
        word = _Word(state["config-epoch"], (state["ip"], state["port"]))
        if self._is_believed(word):
            self._follow(word)
        return word

    def _is_believed(self, word: _Word) -> bool:
        return self.known is None or word.epoch >= self.known.epoch

    def _follow(self, word: _Word) -> None:
        before, self.known = self.known, word
        if before is None or before.address == word.address:
            return
        log.warning("another primary", server=word.address[1], before=before.address[1])
        for connection in list(self.connections):
            connection.hang_up()


class _ToPrimary(Connection):
    """``host`` and ``port`` are found out when it connects."""

    def __init__(self, *, primary: _Primary, **options: Any) -> None:
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]
        self._primary = primary
        primary.connections.add(self)

    async def _connect(self) -> None:
        found = await self._primary.find()
        self.host, self.port = found  # pyright: ignore[reportUnknownMemberType]
        await super()._connect()
        if self._primary.known is None or self._primary.known.address != found:
            self.hang_up()
            raise ConnectionError("another has taken over")

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """uvloop has an error of its own for a connection that it has found closed."""
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            if self._writer is not None and not self._writer.transport.is_closing():
                raise
            await self.disconnect(nowait=True)
            raise ConnectionError("the connection is closed") from error

    def hang_up(self) -> None:
        """Whoever uses it finds it closed, as if the server had done so.

        The transport stays as it is: one that is closed on this side fails with other errors.
        """
        if self._writer is not None:
            with suppress(OSError), _same(self._writer.get_extra_info("socket")) as line:
                line.shutdown(socket.SHUT_RDWR)


class _ToPrimaryEncrypted(_ToPrimary, SSLConnection):
    pass


class _PrimaryPool(BlockingConnectionPool):
    def __init__(self, *, primary: _Primary, **options: Any) -> None:
        super().__init__(primary=primary, **options)  # pyright: ignore[reportUnknownMemberType]
        self._primary = primary

    async def aclose(self) -> None:
        await self._primary.aclose()
        await super().aclose()


def pool_of_primary(named: RedisUrl, options: Mapping[str, Any]) -> BlockingConnectionPool:
    """Connections to the primary that the URL names; ``options`` are the pool's and theirs."""
    asking = {
        **named.sentinel_options,
        "socket_timeout": ASK_SECONDS_MAX,
        "socket_connect_timeout": ASK_SECONDS_MAX,
        "retry": Retry(NoBackoff(), 0),
        "maint_notifications_config": options["maint_notifications_config"],
    }
    if asking.pop("ssl", None):
        asking["ssl"] = True
    sentinels = partial(Sentinel, named.addresses, sentinel_kwargs=asking)
    return _PrimaryPool(
        **{**named.options, **options},
        connection_class=_ToPrimaryEncrypted if "ssl" in asking else _ToPrimary,
        primary=_Primary(sentinels, named.service),
    )


def _same(line: Any) -> socket.socket:
    """A second handle: what an event loop gives away of its socket may lack ``shutdown``."""
    return socket.socket(fileno=os.dup(line.fileno()))


def _seen(look: asyncio.Task[None]) -> None:
    """Its error is told to who waits for it, and there may be nobody left."""
    if not look.cancelled():
        look.exception()
