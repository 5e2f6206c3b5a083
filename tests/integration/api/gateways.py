"""Gateways in the test's own loop: the real application on a real server, over real stores."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt

from services.api.app import Gateway, assemble
from services.api.server import GatewayService
from shared.agents import Agent
from shared.archive import Archive
from shared.postgres import create_engine
from shared.redis_client import HASTY, Redis, connect
from shared.settings import Settings
from tests.integration.api.sse_client import Stream
from tests.support.proxy import Proxy

PARTITIONS = 2
SECRET = "a secret of sixty-four bytes or more, so that HS512 can be tried too"
TOKEN_SECONDS = 3600
CALL_SECONDS_MAX = 20.0
QUEUE_MAX = 4
TTL_SECONDS = 600
AGENTS = {name: Agent(name=name, description=f"Answers {name}ly.") for name in ("default", "brief")}


def token_for(user: str, *, seconds: float = TOKEN_SECONDS, **claims: Any) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time() + seconds), **claims}, SECRET)


def settings_for(redis_url: str, database_url: str, **more: Any) -> Settings:
    return Settings.model_validate(
        {
            "redis_url": redis_url,
            "database_url": database_url,
            "auth_secret": SECRET,
            "partitions": PARTITIONS,
            "queue_per_thread_max": QUEUE_MAX,
            "idle_ttl_seconds": TTL_SECONDS,
            "port": 0,
            **more,
        }
    )


@dataclass(frozen=True)
class Running:
    """A gateway that listens, and what it is made of."""

    gateway: Gateway
    service: GatewayService
    redis: Redis

    @property
    def url(self) -> str:
        return self.service.url

    def client(self, user: str | None, **headers: str) -> Client:
        """A client of a user; None: of nobody."""
        if user is not None:
            headers["Authorization"] = f"Bearer {token_for(user)}"
        return Client(self.url, headers)


@dataclass(frozen=True)
class Network:
    """Where a gateway finds its stores: behind a proxy each, which a test lets misbehave."""

    redis: Proxy
    postgres: Proxy

    @staticmethod
    def cut(proxy: Proxy) -> None:
        """The server is gone: connections end, and new ones are refused."""
        proxy.refuses = True
        proxy.cut_all()


@asynccontextmanager
async def proxied(settings: Settings) -> AsyncGenerator[tuple[Network, Settings]]:
    """Proxies to the stores of some settings, and the settings that lead through them."""
    redis_url, database_url = settings.required("redis_url"), settings.required("database_url")
    async with Proxy(*_place(redis_url)) as redis, Proxy(*_place(database_url)) as postgres:
        through = {"redis_url": redis.url(redis_url), "database_url": postgres.url(database_url)}
        yield Network(redis, postgres), settings.model_copy(update=through)


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


@asynccontextmanager
async def running_gateway(settings: Settings) -> AsyncGenerator[Running]:
    """A gateway on adapters of its own, stopped in the end."""
    redis = connect(settings.required("redis_url"), patience=HASTY)
    engine = create_engine(settings.required("database_url"), application="api")
    gateway = assemble(settings, redis=redis, archive=Archive(engine), agents=AGENTS)
    service = GatewayService(
        gateway,
        redis=redis,
        partitions=settings.partitions,
        host="127.0.0.1",
        port=settings.port,
        trusted_proxies=settings.trusted_proxies,
    )
    try:
        await service.start()
        yield Running(gateway, service, redis)
    finally:
        await service.stop()
        await engine.dispose()
        await redis.aclose()


class Client(httpx.AsyncClient):
    """Speaks HTTP over loopback; the streams it opens are connections of their own."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        super().__init__(base_url=url, headers=headers, timeout=CALL_SECONDS_MAX, verify=False)

    async def ok(self, method: str, path: str, **more: Any) -> Any:
        """The body of an answer that must be 2xx."""
        response = await self.request(method, path, **more)
        assert response.is_success, (response.status_code, response.text)
        return response.json() if response.content else None

    async def problem(self, method: str, path: str, **more: Any) -> tuple[int, str]:
        """Status and code of an answer that must be a problem."""
        return problem_of(await self.request(method, path, **more))

    def stream_events(self, path: str, *, after: int | None = None, **more: Any) -> Stream:
        """Follow Server-Sent Events: enter it, then iterate."""
        headers = {str(k): str(v) for k, v in self.headers.items()}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        return Stream(str(self.base_url).rstrip("/") + path, headers, **more)


def problem_of(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem, whose form is checked."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert body["status"] == response.status_code, body
    assert body["type"] == "about:blank", body
    assert body["title"], body
    assert body["detail"], body
    assert "Traceback" not in response.text
    return response.status_code, body["code"]
