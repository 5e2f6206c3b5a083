"""A model server for tests and load: speaks Chat Completions, behaves as the model's name says.

    async with ModelServer() as server:        # in a test's loop; also
        ... server.url ...                     # python -m tests.support.model_server --port 0

``model_script`` says what a model name can ask for. Beside ``POST …/chat/completions`` there are
``GET /stats``, ``POST /reset`` and ``GET …/models``. One callback per write and no task per stream:
it must outrun what it loads. A client that goes away is noticed when its connection closes, not at
the next write.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, cast

import httptools
import orjson

from tests.support import model_script
from tests.support.model_request import Request, read_request
from tests.support.model_script import Piece, Script
from tests.support.model_statistics import Outcome, Record, Statistics

REQUEST_BYTES_MAX = 16 << 20
WRITES_PER_TURN_MAX = 64


class _Connection(asyncio.Protocol):
    """One client. Answers one request at a time; a pipelined one ends the connection."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server
        self._statistics = server.statistics
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._authorization = b""
        self._body = bytearray()
        self._record: Record | None = None
        self._timer: asyncio.Handle | None = None
        self._write_paused = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._server.connection_made(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def eof_received(self) -> None:
        self.transport.abort()  # a close would first try to write what is left

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("aborted")
        self._server.connection_lost(self)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._record is not None and self._timer is None:
            self._play()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._url = self._authorization = b""
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"authorization":
            self._authorization = value

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > REQUEST_BYTES_MAX:
            self.transport.abort()

    def on_message_complete(self) -> None:
        if self._record is not None:
            self.transport.abort()
            return
        route = self._parser.get_method(), self._url.partition(b"?")[0].rpartition(b"/")[2]
        if route == (b"POST", b"completions"):
            self._answer()
        elif route == (b"GET", b"stats"):
            self._respond(200, self._statistics.as_json())
        elif route == (b"POST", b"reset"):
            self._statistics.reset()
            self._respond(200, b"{}")
        elif route == (b"GET", b"models"):
            self._respond(200, b'{"object":"list","data":[{"id":"fake","object":"model"}]}')
        else:
            self._respond(404, b"{}")

    # Answering.

    def _answer(self) -> None:
        try:
            request = read_request(self._body)
            script = model_script.parse(request.model).answering(request)
        except (ValueError, KeyError, TypeError) as error:
            self._respond(400, orjson.dumps({"error": {"message": str(error)}}))
            return
        asked_before = self._statistics.asked_before(request.model)
        if 0 <= script.times <= asked_before:
            script = script.without_faults()
        self._record = self._statistics.begin(request.model)
        if script.slow_headers_ms:
            wait = script.slow_headers_ms / 1000
            self._timer = self._loop.call_later(wait, self._begin, script, request)
        else:
            self._begin(script, request)

    def _begin(self, script: Script, request: Request) -> None:
        self._timer = None
        model, contents = request.model, request.contents
        if script.status:
            self._refuse(script, contents)
            return
        if script.echo:
            self._pieces: Sequence[Piece] = model_script.pieces(
                script, model, model_script.echo_words(contents)
            )
        else:
            self._pieces = model_script.counted_pieces(script, model)
        self._next = 0
        self._delay = script.delay_ms / 1000
        self._end_after = script.end_ms / 1000
        self._ending = script.ending
        self._stamped = script.stamped
        self._closing = model_script.closing(
            script,
            model,
            prompt_tokens=sum(len(content.split()) for content in contents),
            tokens=sum(tokens for _, tokens in self._pieces),
        )
        self.transport.write(model_script.opening(model))
        first = self._delay if script.first_ms < 0 else script.first_ms / 1000
        self._due = self._loop.time() + first
        if first:
            self._timer = self._loop.call_at(self._due, self._play)
        else:
            self._play()

    def _play(self) -> None:
        """Write until the next pause: of the script, of the transport, or to let others run."""
        self._timer = None
        record = self._record
        for _ in range(WRITES_PER_TURN_MAX):
            if record is None or self._write_paused or self.transport.is_closing():
                return
            if self._next == len(self._pieces):
                self._close()
                return
            data, tokens = self._pieces[self._next]
            self._next += 1
            record.tokens += tokens
            self.transport.write(model_script.stamped(data) if self._stamped else data)
            if self._delay:
                self._due += self._delay
                self._timer = self._loop.call_at(self._due, self._play)
                return
        self._timer = self._loop.call_soon(self._play)

    def _close(self) -> None:
        if self._ending == "cut":
            self._end("cut")
            self.transport.close()
        elif self._ending == "keep" and self._end_after:
            self.transport.write(self._closing)
            self._closing = b""
            self._timer = self._loop.call_later(self._end_after, self._complete)
        elif self._ending == "keep":
            self._complete()

    def _complete(self) -> None:
        self.transport.write(self._closing + model_script.LAST_CHUNK)
        self._end("completed")

    def _refuse(self, script: Script, contents: list[str]) -> None:
        """As indiscreet as a provider can be: quotes the key and the prompt."""
        error = {
            "message": f"refused {self._authorization.decode()} asking {contents}",
            "type": "scripted_refusal",
            "code": None,
        }
        headers = f"Retry-After: {script.retry_after}\r\n" if script.retry_after else ""
        self._end("refused")
        self._respond(script.status, orjson.dumps({"error": error}), headers)

    def _respond(self, status: int, body: bytes, headers: str = "") -> None:
        head = (
            f"HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\n"
            f"{headers}Content-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)

    def _end(self, outcome: Outcome) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._record is not None:
            self._statistics.end(self._record, outcome)
            self._record = None


class ModelServer:
    """The server in the running loop. ``url`` is a base URL, as an OpenAI client wants it."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.statistics = Statistics()
        self._host, self._port = host, port
        self._connections: set[_Connection] = set()

    async def __aenter__(self) -> ModelServer:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), self._host, self._port, backlog=1024
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        await self.drop_connections()
        await self._server.wait_closed()

    async def drop_connections(self) -> None:
        """Reset every connection, busy or not, and wait until all are gone."""
        for connection in list(self._connections):
            connection.transport.abort()
        await self.statistics.until(lambda seen: seen.open_connections == 0)

    @property
    def port(self) -> int:
        return self._port

    @property
    def origin(self) -> str:
        return f"http://{self._host}:{self._port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"

    def connection_made(self, connection: _Connection) -> None:
        self._connections.add(connection)
        self.statistics.connections_changed(+1)

    def connection_lost(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self.statistics.connections_changed(-1)


async def _serve(host: str, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with ModelServer(host=host, port=port) as server:
        facts: dict[str, Any] = {"port": server.port, "url": server.url, "origin": server.origin}
        sys.stdout.write(orjson.dumps(facts).decode() + "\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    """Serve until SIGTERM or SIGINT. Prints one line of JSON once it accepts connections."""
    import uvloop  # only a process of its own may choose its loop

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
