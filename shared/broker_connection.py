"""Hands FastStream a client of ours where its own cannot go: to a cluster, and by way of sentinels.

FastStream gets its client from a *connection state*. Its own for a cluster would bring another
client along, with other retries, which does not notice a failover (``restarts``).
"""

from __future__ import annotations

from typing import Any, Final

from shared.redis_client import (
    BROKER_CONNECTIONS_MAX,
    ENDURING,
    Redis,
    connect,
    is_one_server,
)

ANY_SERVER: Final = "redis://"  # what FastStream is told; it is not connected to


def broker_url(redis_url: str) -> str:
    """What FastStream makes of a URL. Raises SettingsError."""
    return redis_url if is_one_server(redis_url) else ANY_SERVER


def lead(broker: Any, redis_url: str) -> None:
    """Make a broker of ``broker_url`` go where the URL says. Call it before it connects."""
    if not is_one_server(redis_url):
        broker.config.broker_config.connection = _BrokerConnection(redis_url)


class _BrokerConnection:
    """As FastStream's connection states are."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Redis | None = None

    def __bool__(self) -> bool:
        return self._client is not None

    @property
    def client(self) -> Redis:
        assert self._client is not None, "not connected"
        return self._client

    async def connect(self) -> Redis:
        if self._client is None:
            self._client = connect(
                self._url, connections_max=BROKER_CONNECTIONS_MAX, patience=ENDURING
            )
        return self._client

    async def disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
