"""What a HEADWATER_REDIS_URL names: one server, a cluster, or the sentinels that know a primary.

    redis://user:password@host:port/db                       one server
    redis+cluster://user:password@host:port,host:port        a cluster; any of its servers will do
    redis+sentinel://user:password@host:port,host:port/service/db
                                                             the primary of that service

With ``rediss`` for ``redis`` all of it is encrypted. Sentinels that have passwords of their own are
given ``?sentinel_username=…&sentinel_password=…``; redis-py is given what else is behind the ``?``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from redis.asyncio.connection import parse_url

from shared.errors import SettingsError

Kind = Literal["single", "cluster", "sentinel"]
Address = tuple[str, int]

SENTINEL_PORT: Final = 26379
SERVER_PORT: Final = 6379
_SENTINEL: Final = "sentinel_"  # before the name of an option for sentinels
_OF_SENTINELS: Final = ("username", "password")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """``options`` are those of each connection to a server, as redis-py names them."""

    kind: Kind
    addresses: tuple[Address, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    service: str = ""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict[str, Any])


def parse_redis_url(url: str) -> RedisUrl:
    """Raises SettingsError, without the URL in it: that may hold a password."""
    scheme, _, kind = urlsplit(url).scheme.partition("+")
    if not kind:
        return RedisUrl("single")
    try:
        return _several(url, scheme, kind)
    except ValueError as error:
        raise SettingsError(f"HEADWATER_REDIS_URL: {error}") from None


def _several(url: str, scheme: str, kind: str) -> RedisUrl:
    if scheme not in ("redis", "rediss") or kind not in ("cluster", "sentinel"):
        raise ValueError(f"no such scheme as {scheme}+{kind}")
    parts = urlsplit(url)
    userinfo, at, hosts = parts.netloc.rpartition("@")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    of_sentinels = {name: query.pop(_SENTINEL + name, None) for name in _OF_SENTINELS}
    service, _, db = parts.path.strip("/").partition("/")
    if kind == "cluster":
        service, db = "", service
        if db not in ("", "0"):
            raise ValueError("a cluster has database 0 only")
    elif not service:
        raise ValueError("sentinels are asked for a service by its name: …host:port/service")
    default = SENTINEL_PORT if kind == "sentinel" else SERVER_PORT
    options = dict(parse_url(f"{scheme}://{userinfo}{at}-/{db or 0}?{urlencode(query)}"))
    del options["host"]
    if kind == "cluster":
        options.pop("db", None)
    if "connection_class" in options:
        of_sentinels["ssl"] = "True"
    return RedisUrl(
        "cluster" if kind == "cluster" else "sentinel",
        tuple(_address(host, default) for host in hosts.split(",")),
        options,
        unquote(service),
        {name: value for name, value in of_sentinels.items() if value},
    )


def _address(host: str, default_port: int) -> Address:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, parts.port or default_port
