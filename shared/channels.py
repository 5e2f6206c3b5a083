"""A listener's one connection to Redis: sharded pub/sub, subscriptions in line with a wanted set.

    want, drop ──▶ SSUBSCRIBE, SUNSUBSCRIBE, those of a turn of the loop together ──▶ ┐
                                                                                    Redis
    confirmed, heard ◀─── called in the turn in which a publish comes in ◀─────────── ┘

The connection speaks RESP3, in which publishes stand beside replies, so it can be pinged.

Failures
    Connection lost, killed   Made again after RECONNECT_SECONDS. Every subscription is confirmed
                              again, which tells the listener that it may have missed something.
    Peer silently gone        It is pinged every PING_SECONDS; without an answer for as long, the
                              connection is lost.

A cluster has many servers, and a channel its slot: see ``cluster_channels``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from shared.joint_connection import Command, JointConnection
from shared.observability import get_logger
from shared.redis_client import Redis, RedisError

PING_SECONDS: Final = 5.0
RECONNECT_SECONDS: Final = 0.1

log = get_logger()


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
        self._wanted: set[bytes] = set()
        self._changed: set[bytes] = set()
        self._joint: JointConnection | None = None

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

    async def hold_connection(self) -> None:
        """Until the connection is lost: raises RedisError."""
        driver = cast("Any", self._redis.connection_pool).make_connection()
        await driver.connect()
        joint = JointConnection(driver, reply_seconds_max=PING_SECONDS, pushed=self._tell)
        self._joint = joint
        try:
            self._changed.clear()
            if self._wanted:
                joint.tell(self.commands("SSUBSCRIBE", self._wanted))
            while True:
                await asyncio.wait({joint.closed}, timeout=PING_SECONDS)
                await joint.ask([("PING",)])  # raises why the connection is closed
        finally:
            self._joint = None
            await joint.aclose()

    def commands(self, verb: str, channels: set[bytes]) -> list[Command]:
        """What subscribes to channels, or ends that."""
        return [(verb, *channels)]

    def dismissed(self, channel: bytes) -> None:
        """The server has ended a subscription: as asked."""

    def _mark(self, channel: bytes) -> None:
        if self._joint is None:
            return  # whoever connects subscribes to all that is wanted
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._say_changes)
        self._changed.add(channel)

    def _say_changes(self) -> None:
        changed, self._changed = self._changed, set()
        if self._joint is None:
            return
        if wanted := changed & self._wanted:
            self._joint.tell(self.commands("SSUBSCRIBE", wanted))
        if unwanted := changed - self._wanted:
            self._joint.tell(self.commands("SUNSUBSCRIBE", unwanted))

    def _tell(self, message: list[Any]) -> None:
        match message:
            case [b"smessage", channel, payload]:
                self._heard(channel, payload)
            case [b"ssubscribe", channel, _]:
                self._confirmed(channel)
            case [b"sunsubscribe", channel, _]:
                self.dismissed(channel)
            case _:
                log.warning("a push that nobody asked for", kind=str(message[:1]))
