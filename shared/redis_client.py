"""The single point of control for Redis connections, and the one place that knows its errors.

Every write goes through a script that may be sent twice, so retries are allowed: a lost reply costs
a repeated call, never a repeated event.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.maint_notifications import MaintNotificationsConfig

from shared.errors import LogUnavailable

__all__ = ["NoScriptError", "Redis", "RedisError", "ResponseError", "connect", "translate"]

CONNECT_SECONDS_MAX: Final = 3.0
REPLY_SECONDS_MAX: Final = 10.0  # longer than any BLOCK of ours
RETRIES_MAX: Final = 5
BACKOFF_SECONDS: Final = 0.05
BACKOFF_SECONDS_MAX: Final = 1.0
POOL_CONNECTIONS_MAX: Final = 64
POOL_WAIT_SECONDS_MAX: Final = 5.0
_REFUSING_WRITES: Final = ("MISCONF", "OOM", "NOREPLICAS", "READONLY", "LOADING", "CLUSTERDOWN")


def connection_options() -> dict[str, Any]:
    """Options of every connection, FastStream's included.

    Maintenance notifications are off because they disable the check for a socket the server has
    closed (measured with redis-py 8.1): the first call after an idle hour would fail.
    """
    return {
        "socket_timeout": REPLY_SECONDS_MAX,
        "socket_connect_timeout": CONNECT_SECONDS_MAX,
        "retry": Retry(
            ExponentialWithJitterBackoff(base=BACKOFF_SECONDS, cap=BACKOFF_SECONDS_MAX), RETRIES_MAX
        ),
        "retry_on_error": [ReadOnlyError, BusyLoadingError],
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def connect(url: str, *, connections_max: int = POOL_CONNECTIONS_MAX) -> Redis:
    """A client whose callers wait for a free connection instead of failing. Close with aclose()."""
    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        max_connections=connections_max,
        timeout=POOL_WAIT_SECONDS_MAX,
        **connection_options(),
    )
    return Redis(connection_pool=pool)


@contextmanager
def translate() -> Iterator[None]:
    """Turn a Redis that cannot be reached, or refuses writes, into LogUnavailable."""
    try:
        yield
    except (ConnectionError, TimeoutError, OutOfMemoryError, BusyLoadingError) as error:
        raise LogUnavailable(f"Redis is unavailable: {type(error).__name__}") from error
    except ResponseError as error:
        code = str(error).split(" ", 1)[0]
        if code not in _REFUSING_WRITES:
            raise
        raise LogUnavailable(f"Redis refuses writes: {code}") from error
