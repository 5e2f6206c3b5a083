"""The single point of control for Redis connections, and the one place that knows its errors.

Every write goes through a script that may be sent twice, so retries are allowed: a lost reply costs
a repeated call, never a repeated event.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry as BlockingRetry

from shared.errors import LogUnavailable
from shared.restarts import notice_restart

__all__ = [
    "HASTY",
    "PATIENT",
    "NoScriptError",
    "Patience",
    "Redis",
    "RedisError",
    "ResponseError",
    "connect",
    "connect_blocking",
    "translate",
]

CONNECT_SECONDS_MAX: Final = 3.0
REPLY_SECONDS_MAX: Final = 10.0  # longer than any BLOCK of ours
RETRIES_MAX: Final = 5
BACKOFF_SECONDS: Final = 0.05
BACKOFF_SECONDS_MAX: Final = 1.0
BROKER_RETRIES_MAX: Final = 600  # with the back-off below: five minutes of patience
BROKER_BACKOFF_SECONDS_MAX: Final = 0.5
BROKER_CONNECTIONS_MAX: Final = 1024  # a blocked read holds one: two per partition
POOL_CONNECTIONS_MAX: Final = 64
POOL_WAIT_SECONDS_MAX: Final = 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call goes on before it fails with LogUnavailable.

    A connection that fails amid a call is made again within each retry, with retries of its own.
    """

    retries_max: int
    reply_seconds_max: float
    connect_seconds_max: float
    pool_wait_seconds_max: float


PATIENT: Final = Patience(
    RETRIES_MAX, REPLY_SECONDS_MAX, CONNECT_SECONDS_MAX, POOL_WAIT_SECONDS_MAX
)
# Somebody waits for the answer, and is told within five seconds to come again.
HASTY: Final = Patience(1, 1.2, 1.0, 0.5)

_PASSING: Final = (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError,
    TryAgainError,
)
_REFUSING: Final = ("BUSY", "MISCONF", "NOREPLICAS", "UNVERIFIED")


def connection_options(patience: Patience = PATIENT) -> dict[str, Any]:
    """Options of every connection, FastStream's included.

    Maintenance notifications are off because they disable the check for a socket the server has
    closed (measured with redis-py 8.1): the first call after an idle hour would fail.
    """
    return {
        "socket_timeout": patience.reply_seconds_max,
        "socket_connect_timeout": patience.connect_seconds_max,
        "retry": Retry(
            ExponentialWithJitterBackoff(base=BACKOFF_SECONDS, cap=BACKOFF_SECONDS_MAX),
            patience.retries_max,
        ),
        "retry_on_error": [ReadOnlyError, BusyLoadingError],
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def broker_options() -> dict[str, Any]:
    """Options for FastStream, whose own answer to a failed read is a pause of five seconds."""
    backoff = ExponentialWithJitterBackoff(base=BACKOFF_SECONDS, cap=BROKER_BACKOFF_SECONDS_MAX)
    return {
        **connection_options(),
        "retry": Retry(backoff, BROKER_RETRIES_MAX),
        "max_connections": BROKER_CONNECTIONS_MAX,
    }


def connect(
    url: str, *, connections_max: int = POOL_CONNECTIONS_MAX, patience: Patience = PATIENT
) -> Redis:
    """A client whose callers wait for a free connection instead of failing. Close with aclose()."""
    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        max_connections=connections_max,
        timeout=patience.pool_wait_seconds_max,
        redis_connect_func=notice_restart,
        **connection_options(patience),
    )
    return Redis.from_pool(pool)  # owns the pool: aclose() closes its connections


def connect_blocking(url: str, *, reply_seconds_max: float) -> redis.Redis:
    """A client for a thread of its own, without retries: the caller tries again by itself."""
    return redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        socket_timeout=reply_seconds_max,
        socket_connect_timeout=reply_seconds_max,
        retry=BlockingRetry(NoBackoff(), 0),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )


@contextmanager
def translate() -> Generator[None]:
    """Turn a Redis that cannot be reached, or refuses writes, into LogUnavailable."""
    try:
        yield
    except RedisError as error:
        translated = translated_error(error)
        if translated is error:
            raise
        raise translated from error


def translated_error(error: RedisError) -> Exception:
    """LogUnavailable for what passes by itself; a defect of ours stays what it is."""
    if isinstance(error, _PASSING):
        return LogUnavailable(f"Redis is unavailable: {type(error).__name__}")
    code = str(error).split(" ", 1)[0]  # of errors that have no class of their own
    if code in _REFUSING:
        return LogUnavailable(f"Redis is unavailable: {code}")
    return error
