"""The floor: what a team writes first. One Litestar route, the model asked, its tokens passed on.

    POST /answers {"model": …, "query": …}  ─▶  text/event-stream: token, token, …, done

Nothing is stored, numbered or authenticated, and nobody can come back to an answer. It has the same
HTTP server, event loop and model client as Headwater, so that what lies between the two is what
Headwater does, and not what it is made of.

    python -m tests.bench.floor --model http://127.0.0.1:9000/v1
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import uvicorn
import uvloop
from litestar import Litestar, Request, post
from litestar.response import Stream

BACKLOG = 2048
DONE = b"[DONE]"


class Relay:
    def __init__(self, session: aiohttp.ClientSession, model_url: str) -> None:
        self._session, self._url = session, f"{model_url}/chat/completions"

    async def tokens(self, model: str, query: str) -> AsyncIterator[bytes]:
        asked = {
            "model": model,
            "stream": True,
            "messages": [{"role": "user", "content": query}],
        }
        async with self._session.post(self._url, data=orjson.dumps(asked)) as response:
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                if (payload := line[6:].strip()) == DONE:
                    break
                for choice in orjson.loads(payload)["choices"]:
                    if content := choice["delta"].get("content"):
                        data = orjson.dumps({"content": content})
                        yield b"event: token\ndata: %b\n\n" % data
        yield b"event: done\ndata: {}\n\n"


async def serve(model_url: str) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        relay = Relay(session, model_url)

        @post("/answers", status_code=200)
        async def answer(request: Request[Any, Any, Any]) -> Stream:
            asked = await request.json()
            events = relay.tokens(asked["model"], asked["query"])
            return Stream(events, media_type="text/event-stream")

        listening = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        config = uvicorn.Config(
            Litestar([answer], logging_config=None),
            http="httptools",
            lifespan="off",
            access_log=False,
            log_level="warning",
        )
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        sys.stdout.write(orjson.dumps({"url": url}).decode() + "\n")
        sys.stdout.flush()
        await uvicorn.Server(config).serve(sockets=[listening])


def main() -> None:
    """Serve until SIGTERM. Prints one line of JSON once it accepts connections."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", required=True, help="base URL of the model server")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(arguments.model))


if __name__ == "__main__":
    main()
