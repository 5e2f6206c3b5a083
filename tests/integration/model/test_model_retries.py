"""Before the first token a question may be asked again: when, how often, and not too soon."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from services.orchestrator.model import ModelError, ModelRefused
from services.orchestrator.model_limits import ModelLimits
from tests.support.asker import MakeAsker
from tests.support.model_server import ModelServer

THREE_TRIES = ModelLimits(
    tries_max=3, first_token_seconds=0.3, backoff_seconds_first=0.01, retry_after_seconds_max=2.0
)


@pytest.mark.parametrize(
    "fault",
    [
        "status=408",
        "status=409",
        "status=429",
        "status=500",
        "status=503",
        "slow_headers_ms=60000",
        "hang_before_first",
        "hang_after=0",
        "cut_after=0",
        "half_json_after=0",
        "error_in_stream_after=0",
        "no_final,tokens=0",
        "long_line=2000000",
    ],
)
async def test_what_passes_is_asked_again(
    make_asker: MakeAsker, server: ModelServer, fault: str
) -> None:
    answer = await make_asker(THREE_TRIES)(f"fake:{fault},times=2")
    assert answer.completion.finish_reason == "stop"
    assert server.statistics.requests == 3
    await server.statistics.until(lambda seen: seen.open_connections <= 1)


async def test_the_tries_are_bounded(make_asker: MakeAsker, server: ModelServer) -> None:
    with pytest.raises(ModelRefused) as caught:
        await make_asker(THREE_TRIES)("fake:status=503")
    assert caught.value.retryable
    assert server.statistics.requests == 3


@pytest.mark.parametrize("fault", ["status=400", "status=401", "status=403", "status=404"])
async def test_what_stays_is_not_asked_again(
    make_asker: MakeAsker, server: ModelServer, fault: str
) -> None:
    with pytest.raises(ModelError) as caught:
        await make_asker(THREE_TRIES)(f"fake:{fault}")
    assert not caught.value.retryable
    assert server.statistics.requests == 1


async def test_the_server_is_given_the_time_it_asked_for(
    make_asker: MakeAsker, server: ModelServer
) -> None:
    started = time.monotonic()
    await make_asker(THREE_TRIES)("fake:status=429,retry_after=1,times=1")
    assert time.monotonic() - started >= 1.0
    assert server.statistics.requests == 2


async def test_a_server_that_asks_for_too_long_is_left_alone(
    make_asker: MakeAsker, server: ModelServer
) -> None:
    with pytest.raises(ModelRefused) as caught:
        await make_asker(THREE_TRIES)("fake:status=429,retry_after=3600")
    assert (caught.value.code, caught.value.retry_after) == ("model_rate_limited", 3600.0)
    assert server.statistics.requests == 1


async def test_every_retry_is_told(make_asker: MakeAsker) -> None:
    with capture_logs() as lines:
        await make_asker(THREE_TRIES)("fake:status=500,times=2")
    assert [(line["event"], line["code"], line["tries"]) for line in lines] == [
        ("model_retried", "model_refused", 1),
        ("model_retried", "model_refused", 2),
    ]


async def test_a_stale_connection_is_replaced(make_asker: MakeAsker, server: ModelServer) -> None:
    ask = make_asker(THREE_TRIES)
    await ask("fake")
    await server.drop_connections()
    assert (await ask("fake")).text.startswith("t1 ")
