"""The client against the scripted server, both in one loop, over real sockets, on either loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from services.orchestrator.model_limits import ModelLimits
from services.orchestrator.openai_compatible import OpenAICompatibleModel, open_session
from tests.support.asker import API_KEY, ONE_TRY, Asker, MakeAsker
from tests.support.model_server import ModelServer


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The services run on uvloop; aborting a connection is the loop's work, so both are tried."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as running:
        yield running


@pytest.fixture
async def make_asker(server: ModelServer) -> AsyncIterator[MakeAsker]:
    async with open_session(connections_max=100) as session:

        def make(limits: ModelLimits = ONE_TRY, *, base_url: str | None = None) -> Asker:
            url = base_url or server.url
            return Asker(
                OpenAICompatibleModel(session, base_url=url, api_key=API_KEY, limits=limits)
            )

        yield make


@pytest.fixture
def ask(make_asker: MakeAsker) -> Asker:
    return make_asker()
