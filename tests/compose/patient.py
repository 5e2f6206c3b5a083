"""A client behind a proxy: whoever stands in the way says 502 or 503, and it asks again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Self

import aiohttp

from tests.compose.deployment import Deployment
from tests.support.gateway_client import Event, GatewayClient, Seen, StreamCut

STAND_INS = (429, 502, 503, 504)
PATIENCE_SECONDS = 300.0
PAUSE_SECONDS = 0.3
SILENCE_SECONDS_MAX = 30.0  # a comment comes every 15 s


class PatientClient(GatewayClient):
    """A user of the deployment, through its proxy."""

    def __init__(self, deployment: Deployment, user: str) -> None:
        super().__init__(deployment.url, deployment.token(user))

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.session.close()
        # A stream may last as long as it is not silent.
        self.session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_read=SILENCE_SECONDS_MAX),
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
        )
        return self

    async def events(self, job_id: str, *, after: int = 0) -> AsyncGenerator[Event]:
        await self.get(f"/v1/jobs/{job_id}")  # waits until somebody is there to ask
        try:
            async with aclosing(super().events(job_id, after=after)) as events:
                async for event in events:
                    yield event
        except (AssertionError, TimeoutError) as cut:  # refused in between, or silent
            raise StreamCut(str(cut)) from None

    async def get(self, path: str) -> Any:
        """The body, once there is one."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    status, body = await self.call("GET", path)
                except (aiohttp.ClientError, ValueError, ConnectionError, TimeoutError):
                    status, body = 502, None
                if status not in STAND_INS:
                    assert status == 200, (status, body)
                    return body
                await asyncio.sleep(PAUSE_SECONDS)

    async def watch(self, job_id: str, seen: Seen) -> Seen:
        """Follow to the end, within the patience of a person."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.follow(job_id, seen)
