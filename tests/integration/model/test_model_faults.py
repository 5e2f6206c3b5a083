"""Every way an answer can fail: which error, what text is kept, and nothing left open."""

from __future__ import annotations

import asyncio
import socket
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.orchestrator.model import (
    ModelError,
    ModelInterrupted,
    ModelRefused,
    ModelTimedOut,
    ModelUnreachable,
)
from services.orchestrator.model_limits import ModelLimits
from services.orchestrator.openai_compatible import OpenAICompatibleModel, open_session
from tests.support.asker import API_KEY, PROMPT, Asker, MakeAsker
from tests.support.model_server import ModelServer
from tests.support.model_statistics import Statistics

IMPATIENT = ModelLimits(
    tries_max=1,
    unreachable_tries_max=1,
    connect_seconds=0.1,
    first_token_seconds=0.3,
    between_tokens_seconds=0.2,
)
CLOCK_SECONDS = 0.005  # loops count in whole milliseconds
MANY_TRIES = ModelLimits(tries_max=5, between_tokens_seconds=0.2, backoff_seconds_first=0.01)


def nothing_open(seen: Statistics) -> bool:
    return seen.open_connections == 0 == seen.open_streams


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("fake:cut_after=3,delay_ms=1", "t1 t2 t3 ", "closed"),
        ("fake:half_json_after=3", "t1 t2 t3 ", "undecodable"),
        ("fake:bad_utf8_after=3", "t1 t2 t3 ", "undecodable"),
        ("fake:no_final,tokens=3", "t1 t2 t3 ", "no final chunk"),
        ("fake:hang_after=3", "t1 t2 t3 ", "between tokens"),
    ],
)
async def test_after_the_first_token_text_is_kept_and_nothing_is_tried_again(
    make_asker: MakeAsker, server: ModelServer, name: str, text: str, reason: str
) -> None:
    ask = make_asker(MANY_TRIES)
    with pytest.raises(ModelError) as caught:
        await ask(name)
    assert reason in str(caught.value)
    assert caught.value.retryable
    assert "".join(delta.content for delta in ask.deltas) == text
    assert server.statistics.requests == 1
    await server.statistics.until(lambda seen: seen.open_streams == 0)


@pytest.mark.parametrize(("code", "retryable"), [(400, False), (500, True)])
async def test_an_error_in_the_stream(
    make_asker: MakeAsker, server: ModelServer, code: int, retryable: bool
) -> None:
    ask = make_asker(MANY_TRIES)
    with pytest.raises(ModelRefused) as caught:
        await ask(f"fake:error_in_stream_after=3,error_code={code}")
    assert (caught.value.status, caught.value.retryable) == (code, retryable)
    assert len(ask.deltas) == 1
    assert server.statistics.requests == 1


async def test_a_line_without_end_is_not_read_to_its_end(ask: Asker, server: ModelServer) -> None:
    with pytest.raises(ModelInterrupted) as caught:
        await ask("fake:long_line=50000000")
    assert caught.value.reason == "line_too_long"
    await server.statistics.until(nothing_open)
    assert server.statistics.aborted == 1, "the server could not send all of it"


@pytest.mark.parametrize(
    ("name", "phase", "bound"),
    [
        ("fake:slow_headers_ms=60000", "first_token", 0.3),
        ("fake:hang_before_first", "first_token", 0.3),
        ("fake:hang_after=2", "between_tokens", 0.2),
    ],
)
async def test_silence_is_bounded(
    make_asker: MakeAsker, server: ModelServer, name: str, phase: str, bound: float
) -> None:
    started = time.monotonic()
    with pytest.raises(ModelTimedOut) as caught:
        await make_asker(IMPATIENT)(name)
    assert caught.value.phase == phase
    assert bound - CLOCK_SECONDS < time.monotonic() - started < bound + 2
    await server.statistics.until(nothing_open)


async def test_connecting_is_bounded(make_asker: MakeAsker) -> None:
    with socket.socket() as full, socket.socket() as occupant, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # the kernel takes one connection more, and lets the next ones wait
        for client in (occupant, second):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        ask = make_asker(IMPATIENT, base_url=f"http://127.0.0.1:{full.getsockname()[1]}")
        with pytest.raises(ModelTimedOut) as caught:
            await ask("fake")
    assert caught.value.phase == "connect"


async def test_a_port_nobody_listens_on(make_asker: MakeAsker) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        ask = make_asker(base_url=f"http://127.0.0.1:{reserved.getsockname()[1]}/v1")
        with pytest.raises(ModelUnreachable) as caught:
            await ask("fake")
    assert "127.0.0.1" in caught.value.detail
    assert "127.0.0.1" not in str(caught.value)


@asynccontextmanager
async def replying(reply: bytes) -> AsyncIterator[str]:
    """The base URL of a server that says ``reply`` to whatever it is asked, and closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"", ModelUnreachable),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ModelUnreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", ModelInterrupted),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>welcome</html>", ModelInterrupted),
        (b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\n\r\n", ModelRefused),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 99\r\n\r\n{", ModelRefused),
    ],
)
async def test_a_server_that_is_no_model(make_asker: MakeAsker, reply: bytes, kind: type) -> None:
    async with replying(reply) as url:
        with pytest.raises(kind) as caught:
            await make_asker(base_url=url)("fake")
    assert caught.value.__cause__ is None, "an aiohttp error may hold the Authorization header"


async def test_an_answer_that_ends_with_its_connection_is_whole(make_asker: MakeAsker) -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"all"},"finish_reason":"stop"}]}'
    async with replying(b"HTTP/1.1 200 OK\r\n\r\n" + chunk) as url:
        answer = await make_asker(base_url=url)("any")
    assert answer.text == "all"


async def test_an_answer_cut_behind_its_finish_reason_is_whole(make_asker: MakeAsker) -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"all"},"finish_reason":"stop"}]}\n\n'
    framed = b"%x\r\n%b\r\n" % (len(chunk), chunk)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with replying(head + framed) as url:
        answer = await make_asker(base_url=url)("any")
    assert answer.text == "all"


@pytest.mark.parametrize(
    "name",
    [
        "fake:status=400",
        "fake:status=401",
        "fake:status=500",
        "fake:hang_before_first",
        "fake:hang_after=1",
        "fake:cut_after=0",
        "fake:cut_after=1,delay_ms=1",
        "fake:error_in_stream_after=1",
        "fake:no_final",
        "fake:no_such_option",
    ],
)
async def test_neither_the_key_nor_the_prompt_is_in_an_error(
    make_asker: MakeAsker, name: str
) -> None:
    with pytest.raises(ModelError) as caught:
        await make_asker(IMPATIENT)(name)
    error = caught.value
    shown = "".join([str(error), repr(error), str(error.args), *traceback.format_exception(error)])
    assert API_KEY not in shown + error.detail
    assert PROMPT not in shown


async def test_nothing_of_a_wrong_key_or_url_is_shown() -> None:
    async with open_session(connections_max=1) as session:
        limits = ModelLimits()
        for url, key in (
            ("http://host/v1", "line\nfeed"),
            ("http://host/v1", "schlüssel"),
            ("host/v1", "k"),
            ("ftp://host/v1", "k"),
            ("http://me:password@host/v1", "k"),
        ):
            with pytest.raises(ValueError, match="of the model") as caught:
                OpenAICompatibleModel(session, base_url=url, api_key=key, limits=limits)
            assert key not in str(caught.value).split()
