"""A listener's one connection to Redis: sharded pub/sub, subscriptions in line with a wanted set.

    want, drop ──▶ writer ──▶ SSUBSCRIBE, SUNSUBSCRIBE ──▶ ┐
                                                           Redis
    confirmed, heard ◀────────────── reader ◀───────────── ┘

The connection is used as it is, without redis-py's PubSub: that makes a lost connection again by
itself, in whichever task notices, and two tasks share this one. Here a loss ends both, and
everything begins anew with every subscription.

Failures
    Connection lost, killed   Made again after RECONNECT_SECONDS. Every subscription is confirmed
                              again, which tells the listener that it may have missed something.
    Peer silently gone        After LISTEN_SECONDS of silence it is pinged; as much again without
                              a word, and the connection is lost.

A cluster has many servers, and a channel its slot: see ``cluster_channels``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from shared.cancellation import end_tasks
from shared.keys import PartitionKeys
from shared.observability import get_logger
from shared.redis_client import Redis, RedisError

LISTEN_SECONDS: Final = 5.0
RECONNECT_SECONDS: Final = 0.1
STOP_SECONDS_MAX: Final = 1.0

log = get_logger()


class _Silent(RedisError):
    """The other end no longer answers."""


class Channels:
    """Tells ``confirmed`` of every subscription the server made, ``heard`` of every publish."""

    def __init__(
        self,
        redis: Redis,
        *,
        confirmed: Callable[[bytes], None],
        heard: Callable[[bytes, bytes], None],
    ) -> None:
        self._redis = redis
        self._confirmed, self._heard = confirmed, heard
        self._wanted: set[bytes] = self.always()
        self._changed: set[bytes] = set()
        self._change = asyncio.Event()

    @staticmethod
    def always() -> set[bytes]:
        """What is subscribed to whoever listens, so that the connection never leaves that mode."""
        return {PartitionKeys(0).feeds.encode()}

    def want(self, channel: bytes) -> None:
        self._wanted.add(channel)
        self._mark(channel)

    def drop(self, channel: bytes) -> None:
        self._wanted.discard(channel)
        self._mark(channel)

    async def listen(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.hold_connection()
            except RedisError as error:
                log.warning("connection of channels lost", reason=str(error))
            await asyncio.sleep(RECONNECT_SECONDS)

    def _mark(self, channel: bytes) -> None:
        self._changed.add(channel)
        self._change.set()

    async def subscribe(self, connection: Any, channels: set[bytes]) -> None:
        await connection.send_command("SSUBSCRIBE", *channels)

    async def unsubscribe(self, connection: Any, channels: set[bytes]) -> None:
        await connection.send_command("SUNSUBSCRIBE", *channels)

    def dismissed(self, channel: bytes) -> None:
        """The server has ended a subscription: as asked."""

    async def hold_connection(self) -> None:
        """Until the connection is lost: raises RedisError."""
        pool = cast("Any", self._redis.connection_pool)
        connection = await pool.get_connection()
        try:
            self._changed.clear()
            await self.subscribe(connection, set(self._wanted))
            tasks = [
                asyncio.create_task(self._write(connection), name="channels.write"),
                asyncio.create_task(self._read(connection), name="channels.read"),
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end_tasks(tasks, seconds_max=STOP_SECONDS_MAX)
            done.pop().result()  # raises why it ended
        finally:
            await connection.disconnect(nowait=True)
            await pool.release(connection)

    async def _write(self, connection: Any) -> None:
        while True:
            await self._change.wait()
            self._change.clear()
            changed, self._changed = self._changed, set()
            if wanted := changed & self._wanted:
                await self.subscribe(connection, wanted)
            if unwanted := changed - self._wanted:
                await self.unsubscribe(connection, unwanted)

    async def _read(self, connection: Any) -> None:
        """Ends with an error only, and leaves it to the holder to close what the writer uses."""
        pinged = False
        while True:
            message = await connection.read_response(
                timeout=LISTEN_SECONDS, push_request=True, disconnect_on_error=False
            )
            if message is not None:
                pinged = False
                self._tell(message)
            elif pinged:
                raise _Silent(f"no word in {2 * LISTEN_SECONDS} s")
            else:
                pinged = True
                await connection.send_command("PING")

    def _tell(self, message: Any) -> None:
        match message:
            case [b"smessage", channel, payload]:
                self._heard(channel, payload)
            case [b"ssubscribe", channel, _]:
                self._confirmed(channel)
            case [b"sunsubscribe", channel, _]:
                self.dismissed(channel)
            case _:
                pass  # the answer to a ping
