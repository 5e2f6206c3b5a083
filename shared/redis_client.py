"""The single point of control for Redis connections, and the one place that knows its errors.

Every write goes through a script that may be sent twice, so retries are allowed: a lost reply costs
a repeated call, never a repeated event.

What a URL names (``redis_urls``) decides what is opened: one server, by a connection that callers
share (``joint_client``); the same, where connections ask the sentinels where to go; or a pool for
each server of a cluster (``cluster_client``). Callers see no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import (
    AskError,
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

from shared.cluster_client import ClusterRedis
from shared.cluster_nodes import ClusterNodes
from shared.errors import LogUnavailable
from shared.joint_client import JointRedis
from shared.redis_urls import Address, RedisUrl, parse_redis_url
from shared.renewed_pool import RenewedPool
from shared.restarts import notice_failover, notice_restart
from shared.sentinels import pool_of_primary

__all__ = [
    "ENDURING",
    "HASTY",
    "PATIENT",
    "ClusterRedis",
    "NoScriptError",
    "Patience",
    "Redis",
    "RedisError",
    "ResponseError",
    "connect",
    "connect_blocking",
    "is_one_server",
    "server_of",
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
    backoff_seconds_max: float = BACKOFF_SECONDS_MAX

    @property
    def backoff(self) -> ExponentialWithJitterBackoff:
        return ExponentialWithJitterBackoff(base=BACKOFF_SECONDS, cap=self.backoff_seconds_max)


PATIENT: Final = Patience(
    RETRIES_MAX, REPLY_SECONDS_MAX, CONNECT_SECONDS_MAX, POOL_WAIT_SECONDS_MAX
)
# Somebody waits for the answer, and is told within five seconds to come again.
HASTY: Final = Patience(1, 1.2, 1.0, 0.5)
# FastStream's own answer to a failed read is a pause of five seconds.
ENDURING: Final = Patience(
    BROKER_RETRIES_MAX,
    REPLY_SECONDS_MAX,
    CONNECT_SECONDS_MAX,
    POOL_WAIT_SECONDS_MAX,
    BROKER_BACKOFF_SECONDS_MAX,
)

_PASSING: Final = (
    AskError,  # and MovedError: those who move a slot do not agree yet
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
        "retry": Retry(patience.backoff, patience.retries_max),
        "retry_on_error": [ReadOnlyError, BusyLoadingError],
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def broker_options() -> dict[str, Any]:
    """Options for FastStream."""
    return {**connection_options(ENDURING), "max_connections": BROKER_CONNECTIONS_MAX}


def connect(
    url: str, *, connections_max: int = POOL_CONNECTIONS_MAX, patience: Patience = PATIENT
) -> Redis:
    """A client whose callers wait for a free connection instead of failing. Close with aclose().

    Raises SettingsError for a URL that names nothing.
    """
    named = parse_redis_url(url)
    if named.kind == "cluster":
        return _cluster(named, connections_max, patience)
    if named.kind == "sentinel":
        options = connection_options(patience) | _pool_options(connections_max, patience)
        options["redis_connect_func"] = notice_restart
        return _joint(pool_of_primary(named, options), patience)
    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        **_pool_options(connections_max, patience),
        redis_connect_func=notice_restart,
        **connection_options(patience),
    )
    return _joint(pool, patience)


def _joint(pool: BlockingConnectionPool, patience: Patience) -> JointRedis:
    return JointRedis(
        pool,
        retries_max=patience.retries_max,
        backoff=patience.backoff,
        reply_seconds_max=patience.reply_seconds_max,
    )


def is_one_server(url: str) -> bool:
    """Whether the driver can be given the URL as it is. Raises SettingsError."""
    return parse_redis_url(url).kind == "single"


async def server_of(client: Redis, key: str) -> Redis:
    """Who has the key: the client itself, but in a cluster that of one server.

    Raises LogUnavailable.
    """
    if not isinstance(client, ClusterRedis):
        return client
    with translate():
        return await client.server_of(key)


def _cluster(named: RedisUrl, connections_max: int, patience: Patience) -> ClusterRedis:
    """Each server with a pool of its own, which does not try again: where to is not its to say."""
    options = {**connection_options(patience), **named.options, "retry": Retry(NoBackoff(), 0)}
    del options["retry_on_error"]

    def server(address: Address, metas: Callable[[], list[str]]) -> Redis:
        notice = partial(notice_failover, metas_of_server=metas)
        sizes = _pool_options(connections_max, patience)
        return _server(address, {**options, **sizes, "redis_connect_func": notice})

    def lookout(address: Address) -> Redis:
        return _server(address, {**options, **_pool_options(1, patience)})

    nodes = ClusterNodes(
        named.addresses,
        server=server,
        lookout=lookout,
        look_seconds_max=patience.connect_seconds_max,
    )
    return ClusterRedis(nodes, retries_max=patience.retries_max, backoff=patience.backoff)


def _server(address: Address, options: dict[str, Any]) -> Redis:
    host, port = address
    return Redis.from_pool(RenewedPool(**options, host=host, port=port))


def _pool_options(connections_max: int, patience: Patience) -> dict[str, Any]:
    return {"max_connections": connections_max, "timeout": patience.pool_wait_seconds_max}


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
