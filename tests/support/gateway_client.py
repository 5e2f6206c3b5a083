"""A chat product's client: asks, follows a stream, drops it anywhere, and resumes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import aiohttp

STREAM_SECONDS_MAX = 60.0
RECONNECTS_MAX = 200
RECONNECT_SECONDS = 0.1

Event = dict[str, Any]


@dataclass
class Seen:
    """What one viewer has seen of a job, over all its connections."""

    events: list[Event] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)  # time.monotonic() of each event
    connections: int = 0
    reconnect_notices: int = 0

    @property
    def last_seq(self) -> int:
        return self.events[-1]["seq"] if self.events else 0

    @property
    def is_done(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] == "done"

    @property
    def longest_pause_seconds(self) -> float:
        """The longest time without an event, between the first and the last."""
        return max((b - a for a, b in pairwise(self.arrivals)), default=0.0)

    @property
    def text(self) -> str:
        """The joined tokens of the last attempt."""
        attempt = max(event["attempt"] for event in self.events)
        tokens = [e for e in self.events if e["type"] == "token" and e["attempt"] == attempt]
        return "".join(event["content"] for event in tokens)


class StreamCut(Exception):
    """The body ended without ``done`` and without asking for a reconnect."""


class GatewayClient:
    def __init__(self, base_url: str, token: str) -> None:
        self.base_url = base_url
        self.user = ""
        self._headers = {"Authorization": f"Bearer {token}"}

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=STREAM_SECONDS_MAX)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self.session = aiohttp.ClientSession(
            headers=self._headers, timeout=timeout, connector=connector
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.session.close()

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and decoded body."""
        async with self.session.request(method, self.base_url + path, json=body) as response:
            content = await response.read()
            return response.status, json.loads(content) if content else None

    async def get(self, path: str) -> Any:
        status, body = await self.call("GET", path)
        assert status == 200, (status, body)
        return body

    async def ask(self, query: str, **more: Any) -> Any:
        """Queue a question; the accepted ids."""
        status, body = await self.call("POST", "/v1/jobs", {"query": query, **more})
        assert status == 202, (status, body)
        return body

    async def events(self, job_id: str, *, after: int = 0) -> AsyncGenerator[Event]:
        """One connection's events, each with its ``id``; ends as the body does.

        Raises StreamCut, or aiohttp's errors, when it ends otherwise than by ``done`` or
        ``reconnect``.
        """
        url = f"{self.base_url}/v1/jobs/{job_id}/events"
        headers = {"Last-Event-ID": str(after)} if after else {}
        async with self.session.get(url, headers=headers) as response:
            assert response.status == 200, (response.status, await response.text())
            last = ""
            async for event in parse_sse(response.content):
                last = event["type"]
                yield event
            if last not in ("done", "reconnect"):
                raise StreamCut(f"body ended after {last!r}")

    async def follow(
        self,
        job_id: str,
        seen: Seen | None = None,
        *,
        cut_after: Callable[[Seen], int | None] = lambda _: None,
    ) -> Seen:
        """Follow to ``done``, resuming at the last seq after every loss of the connection.

        ``cut_after`` is asked on every connection for the number of events after which the client
        drops it by itself.
        """
        seen = seen or Seen()
        while not seen.is_done:
            seen.connections += 1
            assert seen.connections <= RECONNECTS_MAX, "the stream makes no progress"
            try:
                await self._one_connection(job_id, seen, cut_after(seen))
            except (aiohttp.ClientError, StreamCut, ConnectionError):
                await _pause()
        return seen

    async def _one_connection(self, job_id: str, seen: Seen, cut: int | None) -> None:
        got = 0
        async with aclosing(self.events(job_id, after=seen.last_seq)) as events:
            async for event in events:
                if event["type"] == "reconnect":
                    seen.reconnect_notices += 1
                    await _pause()
                    return
                assert int(event.pop("id")) == event["seq"]
                seen.events.append(event)
                seen.arrivals.append(time.monotonic())
                got += 1
                if cut is not None and got >= cut:
                    return


async def parse_sse(content: aiohttp.StreamReader) -> AsyncGenerator[Event]:
    """Server-Sent Events, as a browser reads them; comments and `retry` are skipped."""
    event: dict[str, str] = {}
    async for raw in content:
        line = raw.decode().rstrip("\r\n")
        if line:
            name, _, value = line.partition(":")
            event[name] = value.removeprefix(" ")
        elif "data" in event:
            yield {"type": event["event"], **json.loads(event["data"])} | (
                {"id": event["id"]} if "id" in event else {}
            )
            event = {}


async def _pause() -> None:
    """What a polite client waits before it comes back."""
    await asyncio.sleep(RECONNECT_SECONDS)
