"""A bench to put workers on, a model server that does what it is told, and a gateway."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import structlog

from shared.redis_client import Redis
from tests.integration.orchestrator.gateway import Gateway
from tests.integration.orchestrator.workers import DEFAULTS, Bench
from tests.support.model_server import ModelServer


@pytest.fixture(autouse=True)
def _plain_log() -> Generator[None]:
    """Warnings, a line each: the console's own way with a traceback takes seconds."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    yield
    structlog.reset_defaults()


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
