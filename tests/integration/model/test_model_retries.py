"""Before the first token a question may be asked again: when, how often, and not too soon."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from services.orchestrator.model import ModelError, ModelRefused, ModelUnreachable
from services.orchestrator.model_limits import ModelLimits
from tests.support.asker import MakeAsker
from tests.support.model_server import ModelServer

THREE_TRIES = ModelLimits(
    tries_max=3,
    unreachable_tries_max=4,
    first_token_seconds=0.3,
    backoff_seconds_first=0.01,
    retry_after_seconds_max=2.0,
)

CHUNK = b'data: {"choices":[{"delta":{"content":"all"},"finish_reason":"stop"}]}\n\n'
WHOLE_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(CHUNK), CHUNK)


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


async def test_a_kept_connection_that_just_closed_is_no_failure(make_asker: MakeAsker) -> None:
    """Each connection of this server answers once and dies of its second request."""
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(WHOLE_ANSWER)
        await read_request(reader)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        ask = make_asker(base_url=f"http://127.0.0.1:{port}")
        for _ in range(3):
            assert (await ask("any")).text == "all"
    assert connections == 3


async def test_a_new_connection_that_closes_is_a_failure(make_asker: MakeAsker) -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(ModelUnreachable):
            await make_asker(THREE_TRIES, base_url=f"http://127.0.0.1:{port}")("any")
    assert connections == THREE_TRIES.unreachable_tries_max


async def read_request(reader: asyncio.StreamReader) -> None:
    """Take one request; nothing, if the client has closed."""
    with suppress(asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        assert length is not None
        await reader.readexactly(int(length[1]))
