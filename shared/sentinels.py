"""Connections that ask the sentinels where the primary is, each time they are made.

    connection ─▶ sentinels, one after the other ─▶ address of the primary ─▶ connect, greet, notice

When sentinels fail over they close the connections to whom they demote, and who died has closed
them itself. So every client asks again when it must, and then finds another run (``restarts``).

Failures
    No sentinel answers   Or none knows a primary that is well: ConnectionError, and the call is
                          repeated as for a server that is away.
    Primary cut off       It takes writes until its clients learn of the other one; these are lost,
                          unless it is told to stop by itself (``min-replicas-to-write``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast

from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from shared.redis_urls import Address, RedisUrl

ASK_SECONDS_MAX: Final = 1.0  # of one sentinel; then the next is asked


class _ToPrimary(Connection):
    """``host`` and ``port`` are found out when it connects."""

    def __init__(self, *, sentinels: Callable[[], Sentinel], service: str, **options: Any) -> None:
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]
        self._sentinels, self._service = sentinels, service

    async def _connect(self) -> None:
        sentinels = self._sentinels()
        try:
            found: Address = await cast("Any", sentinels).discover_master(self._service)
        finally:
            await sentinels.aclose()
        self.host, self.port = found  # pyright: ignore[reportUnknownMemberType]
        await super()._connect()


class _ToPrimaryEncrypted(_ToPrimary, SSLConnection):
    pass


def following_sentinels(named: RedisUrl, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a pool of connections to the primary that the URL names."""
    asking = {
        **named.sentinel_options,
        "socket_timeout": ASK_SECONDS_MAX,
        "socket_connect_timeout": ASK_SECONDS_MAX,
        "retry": Retry(NoBackoff(), 0),
        "maint_notifications_config": options["maint_notifications_config"],
    }
    if asking.pop("ssl", None):
        asking["ssl"] = True
    return {
        **options,
        "connection_class": _ToPrimaryEncrypted if "ssl" in asking else _ToPrimary,
        "sentinels": partial(Sentinel, named.addresses, sentinel_kwargs=asking),
        "service": named.service,
    }
