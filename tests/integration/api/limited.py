"""Gateways with limits, over the stores of a test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from shared.settings import Settings
from tests.integration.api.gateways import Client, Running, running_gateway


@asynccontextmanager
async def gateways(
    settings: Settings, count: int = 1, **limits: Any
) -> AsyncGenerator[list[Running]]:
    async with AsyncExitStack() as stack:
        limited = settings.model_copy(update=limits)
        yield [await stack.enter_async_context(running_gateway(limited)) for _ in range(count)]


@asynccontextmanager
async def clients(
    settings: Settings, user: str | None, count: int = 1, **limits: Any
) -> AsyncGenerator[list[Client]]:
    """Clients of one user, each of a gateway of its own."""
    async with gateways(settings, count, **limits) as running, AsyncExitStack() as stack:
        yield [await stack.enter_async_context(one.client(user)) for one in running]


async def ask(client: Client, **more: Any) -> httpx.Response:
    headers = {"Idempotency-Key": more.pop("key")} if "key" in more else {}
    return await client.post("/v1/jobs", json={"query": "hi", **more}, headers=headers)
