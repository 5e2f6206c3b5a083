"""The gateway as a service: uvicorn under the project's own lifecycle."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator, Sequence
from typing import Final

import uvicorn

from services.api.app import Gateway
from services.api.connections import ClientConnection
from services.api.socket_connections import PING_SECONDS, PONG_SECONDS_MAX, SocketConnection
from shared.deployment import prepare
from shared.errors import HeadwaterError
from shared.redis_client import Redis

BACKLOG: Final = 2048
KEEP_ALIVE_SECONDS: Final = 75
START_POLL_SECONDS: Final = 0.01


class _Server(uvicorn.Server):
    """Leaves signals to the process: draining comes before closing."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class GatewayService:
    """A ``lifecycle.Service``. Draining asks open streams to reconnect, then ends requests."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        redis: Redis,
        partitions: int,
        host: str,
        port: int,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self._gateway, self._redis, self._partitions = gateway, redis, partitions
        config = uvicorn.Config(
            gateway.app,
            host=host,
            port=port,
            loop="uvloop",
            http=ClientConnection,
            ws=SocketConnection,
            ws_max_size=gateway.socket_bytes_max,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PONG_SECONDS_MAX,
            ws_per_message_deflate=False,
            lifespan="off",  # the service starts and stops its parts itself
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
        )
        parts = (
            gateway.feed,
            gateway.streams,
            gateway.company.places,
            gateway.company.attendances,
            gateway.keys,
        )
        self._parts = [part for part in parts if part is not None]
        self._address = f"{host}:{port}"
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens, once started; with port 0, the port the system chose."""
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://{self._server.config.host}:{port}"

    async def start(self) -> None:
        await prepare(self._redis, self._partitions)
        for part in self._parts:
            await part.start()
        self._serving = asyncio.create_task(self._serve(), name="uvicorn")
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
                raise HeadwaterError(f"cannot listen on {self._address}")
            await asyncio.sleep(START_POLL_SECONDS)

    async def is_ready(self) -> bool:
        return self._server.started and not await self._gateway.health.problems()

    async def failed(self) -> str:
        tasks = [task for part in self._parts for task in part.tasks]
        tasks += [self._serving] if self._serving else []
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        task = done.pop()
        return f"{task.get_name()} ended: {task.exception()!r}"

    async def drain(self) -> None:
        self._gateway.health.draining = True
        self._gateway.feed.drain()
        self._server.should_exit = True
        if self._serving is not None:
            await asyncio.shield(self._serving)

    async def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)
        for part in self._parts:
            await part.stop()

    async def _serve(self) -> None:
        try:
            await self._server.serve()
        except SystemExit:  # uvicorn's way to say that it cannot listen
            raise HeadwaterError(f"cannot listen on {self._address}") from None
