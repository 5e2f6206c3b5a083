"""A client of one server whose callers share a connection (``joint_connection``).

It is used as the driver's own. Commands whose replies are late or long go the driver's way, on
connections of their own: behind them everybody else would wait.

Failures
    Connection lost, server silent, demoted, loading   Sent again, on a new connection, as often as
                                                       the patience says: all that write may be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.backoff import AbstractBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    ReadOnlyError,
    TimeoutError,
)

from shared.joint_connection import Command, JointConnection, Replies

LATE: Final = ("BLPOP", "BRPOP", "BLMOVE", "WAIT", "XREAD", "XREADGROUP", "MONITOR")
LONG: Final = ("XRANGE", "XREVRANGE", "XAUTOCLAIM")
APART: Final = frozenset(form for name in (*LATE, *LONG) for form in (name, name.encode()))

_DEMOTED: Final = (ReadOnlyError, BusyLoadingError)
_PASSING: Final = (ConnectionError, TimeoutError, *_DEMOTED)

Stack = Sequence[tuple[tuple[Any, ...], dict[str, Any]]]


class JointRedis(Redis):
    """``reply_seconds_max`` is of the shared connection; the pool has its own."""

    def __init__(
        self,
        pool: BlockingConnectionPool,
        *,
        retries_max: int,
        backoff: AbstractBackoff,
        reply_seconds_max: float,
    ) -> None:
        super().__init__(connection_pool=pool)  # pyright: ignore[reportUnknownMemberType]
        self.auto_close_connection_pool = True
        self._retries_max, self._backoff = retries_max, backoff
        self._reply_seconds_max = reply_seconds_max
        self._joint: JointConnection | None = None
        self._opening: asyncio.Task[JointConnection] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] in APART:
            return await cast("Any", super()).execute_command(*args, **options)
        [reply] = await self.carry_out([args])
        if isinstance(reply, Exception):
            raise reply
        return _read_as(self.response_callbacks, reply, args[0], options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        if transaction:
            return super().pipeline(transaction, shard_hint)
        return _JointPipeline(self)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        if self._opening is not None:
            self._opening.cancel()
        joint, self._joint = self._joint, None
        if joint is not None:
            await joint.aclose()
        await super().aclose(close_connection_pool)

    async def carry_out(self, commands: Sequence[Command]) -> Replies:
        """The replies as the server gives them, in order; of a command that was refused its error.

        Raises ConnectionError, TimeoutError, and ReadOnlyError or BusyLoadingError for all of them.
        """
        failures = 0
        while True:
            joint = self._joint
            if joint is None or not joint.is_open:
                joint = await self._opened()  # which tries again by itself
            try:
                return await self._ask(joint, commands)
            except _PASSING:
                failures += 1
                if failures > self._retries_max:
                    raise
                await asyncio.sleep(self._backoff.compute(failures))

    async def _ask(self, joint: JointConnection, commands: Sequence[Command]) -> Replies:
        replies = await joint.ask(commands)
        for reply in replies:
            if isinstance(reply, _DEMOTED):  # whoever serves now is found by connecting
                joint.give_up(ConnectionError("the server takes no writes"))
                raise reply
        return replies

    async def _opened(self) -> JointConnection:
        """One attempt for all who wait. Raises ConnectionError, TimeoutError."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._has_opened)
        return await asyncio.shield(self._opening)

    async def _open(self) -> JointConnection:
        if self._joint is not None:
            await self._joint.aclose()
        driver = cast("Any", self.connection_pool).make_connection()
        await driver.connect()
        self._joint = JointConnection(driver, reply_seconds_max=self._reply_seconds_max)
        return self._joint

    def _has_opened(self, opening: asyncio.Task[JointConnection]) -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # it is told to those who wait, if there still are any


class _JointPipeline(Pipeline):
    def __init__(self, redis: JointRedis) -> None:
        super().__init__(redis.connection_pool, redis.response_callbacks, False, None)
        self._redis = redis

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack = cast("Stack", self.command_stack)
        if any(args[0] in APART for args, _ in stack):
            return await super().execute(raise_on_error)
        self.command_stack = []
        replies = await self._redis.carry_out([args for args, _ in stack]) if stack else []
        for index, (reply, (args, options)) in enumerate(zip(replies, stack, strict=True)):
            if not isinstance(reply, Exception):
                replies[index] = _read_as(self.response_callbacks, reply, args[0], options)
            elif raise_on_error:
                raise reply
        return replies


def _read_as(callbacks: Mapping[Any, Any], reply: Any, name: Any, options: dict[str, Any]) -> Any:
    """What the driver makes of a reply."""
    if name not in callbacks:
        return reply
    options.pop("keys", None)  # meant for the driver's cache
    return callbacks[name](reply, **options)
