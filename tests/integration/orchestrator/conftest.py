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

ECHO_PROMPT = "p"


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
    """A bench with agents of every temper; tests add their own."""
    bench = Bench(redis_url, model.url, tmp_path)
    bench.agent("default", "fake:tokens=20")
    bench.agent("brief", "fake:tokens=10,delay_ms=15")
    bench.agent("slow", "fake:tokens=100,delay_ms=20")
    bench.agent("silent", "fake:hang_before_first")
    bench.agent("broken", "fake:cut_after=7")
    bench.agent("echo", "fake:echo", system_prompt=ECHO_PROMPT)
    return bench


@pytest.fixture
def gateway(redis: Redis) -> Gateway:
    return Gateway(redis, DEFAULTS["partitions"])
