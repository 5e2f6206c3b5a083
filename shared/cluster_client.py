"""A client of a Redis Cluster that is used like one of a single server.

    command, pipeline ─▶ by slot ─▶ one round trip to each server ─▶ replies in order
                            ▲                     │
                            └── look, wait ◀── MOVED, TRYAGAIN, CLUSTERDOWN, away …

Every command names its keys, all of one slot. A pipeline may mix slots; the commands of one slot
are carried out in order, unless it moves meanwhile.

Failures
    Server away, failing over   A command is sent again, ``retries_max`` times at most, each time to
                                whom the cluster then names. A pipeline that is asked not to raise
                                leaves it to its caller: the commands for that server have the error
                                in their place, the others their replies.
    Slot moves key by key       ASK is followed. Scripts are refused as a whole (``cluster_map``).
    Reply lost                  The command may have been carried out, and is sent again: as it is
                                with a single server, all that write may be sent twice.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, Self, cast

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.backoff import AbstractBackoff
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
    TryAgainError,
)

from shared.cluster_map import guarded, slot_of
from shared.cluster_nodes import ClusterNodes
from shared.redis_urls import Address

REDIRECTIONS_MAX: Final = 3  # at once; then with the pauses between retries

_MOVED: Final = (MovedError, ReadOnlyError)
_PASSING: Final = (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    ReadOnlyError,
    TimeoutError,
    TryAgainError,
)

Stack = Sequence[tuple[tuple[Any, ...], dict[str, Any]]]

_ASKING: Final[tuple[tuple[Any, ...], dict[str, Any]]] = (("ASKING",), {})


class ClusterRedis(Redis):
    """``Redis``, but each command goes to the server that has its keys."""

    def __init__(self, nodes: ClusterNodes, *, retries_max: int, backoff: AbstractBackoff) -> None:
        # The pool that this makes is never used.
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._nodes = nodes
        self._retries_max, self._backoff = retries_max, backoff

    async def server_of(self, key: str | bytes) -> Redis:
        """The client of the server that has a key now. Raises ConnectionError, ClusterDownError."""
        await self._nodes.fresh()
        address = self._nodes.owner(slot_of(("GET", key)))
        if address is None:
            raise ClusterDownError("no server has the slot")
        return self._nodes.server(address)

    def doubt(self) -> None:
        """Ask who has which slot before the next command."""
        self._nodes.doubt()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        [reply] = await self.carry_out([(args, options)], self._retries_max)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Not a transaction: scripts are for that."""
        return _ClusterPipeline(self, self._retries_max)

    def pubsub(self, **_: Any) -> Any:
        raise NotImplementedError("shard channels of a cluster are listened to by cluster_channels")

    async def initialize(self) -> Self:
        return self

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await self._nodes.aclose()

    async def carry_out(self, stack: Stack, retries_max: int) -> list[Any]:
        """The replies, in order; of a command that failed its error."""
        replies: list[Any] = [None] * len(stack)
        left = list(range(len(stack)))
        failures = redirections = 0
        while True:
            await self._round(stack, left, replies)
            left = [index for index in left if isinstance(replies[index], _PASSING)]
            if not left:
                return replies
            self._nodes.doubt()
            if redirections < REDIRECTIONS_MAX and all(
                isinstance(replies[index], _MOVED) for index in left
            ):
                redirections += 1
                continue
            failures += 1
            if failures > retries_max:
                return replies
            await asyncio.sleep(self._backoff.compute(failures))

    async def _round(self, stack: Stack, left: Sequence[int], replies: list[Any]) -> None:
        try:
            await self._nodes.fresh()
        except ConnectionError as error:
            for index in left:
                replies[index] = error
            return
        groups: dict[Address | None, list[int]] = defaultdict(list)
        for index in left:
            groups[self._nodes.owner(slot_of(stack[index][0]))].append(index)
        for index in groups.pop(None, ()):
            replies[index] = ClusterDownError("no server has the slot")
        sending = [self._send(address, stack, group, replies) for address, group in groups.items()]
        await (sending[0] if len(sending) == 1 else asyncio.gather(*sending))

    async def _send(
        self, address: Address | None, stack: Stack, group: Sequence[int], replies: list[Any]
    ) -> None:
        found = await self._ask(cast("Address", address), [stack[index] for index in group])
        for index, reply in zip(group, found, strict=True):
            if isinstance(reply, AskError) and not isinstance(reply, MovedError):
                elsewhere = cast("Address", cast("Any", reply).node_addr)
                _, reply = await self._ask(elsewhere, [_ASKING, stack[index]])
            replies[index] = reply

    async def _ask(self, address: Address, stack: Stack) -> list[Any]:
        """The replies of one server; its error in place of each when it cannot be reached."""
        pipeline = cast("Any", self._nodes.server(address).pipeline(transaction=False))
        for args, options in stack:
            pipeline.execute_command(*guarded(args), **options)
        try:
            async with self._nodes.answering(address):
                return await pipeline.execute(raise_on_error=False)
        except RedisError as error:
            return [error] * len(stack)


class _ClusterPipeline(Pipeline):
    def __init__(self, redis: ClusterRedis, retries_max: int) -> None:
        super().__init__(redis.connection_pool, redis.response_callbacks, False, None)
        self._redis, self._retries_max = redis, retries_max

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, self.command_stack = self.command_stack, []
        retries_max = self._retries_max if raise_on_error else 0
        replies = await self._redis.carry_out(cast("Stack", stack), retries_max)
        for reply in replies if raise_on_error else ():
            if isinstance(reply, Exception):
                raise reply
        return replies
