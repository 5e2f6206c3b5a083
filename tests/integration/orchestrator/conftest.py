"""A bench to put workers on, a model server that does what it is told, and a gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from shared.redis_client import Redis
from tests.integration.orchestrator.gateway import Gateway
from tests.integration.orchestrator.workers import DEFAULTS, Bench
from tests.support.model_server import ModelServer


@pytest.fixture
async def model() -> AsyncGenerator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
def bench(redis_url: str, model: ModelServer, tmp_path: Path) -> Bench:
    """Everybody answers with 20 tokens, unless the test says otherwise."""
    bench = Bench(redis_url, model.url, tmp_path)
    bench.agent("default", "fake:tokens=20")
    return bench


@pytest.fixture
def gateway(redis: Redis) -> Gateway:
    return Gateway(redis, DEFAULTS["partitions"])
