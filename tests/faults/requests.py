"""Requests to the gateways, in turn, with what a patient client does about a refusal; recorded.

A POST that creates carries an Idempotency-Key and is sent again, to the next gateway, until
somebody has answered it: a reply that was lost on the way makes no second job.

Failures: NotAccepted after ASK_SECONDS_MAX without an answer, Refused by an answer that no repeat
will change.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.faults.history import History
from tests.support.gateway_client import Event, parse_sse

ASK_SECONDS_MAX = 60.0
REPLY_SECONDS_MAX = 10.0
SILENCE_SECONDS_MAX = 20.0  # a comment comes every 15 s
PAUSE_SECONDS_MAX = 0.3
PASSING = frozenset((429, 503))


class NotAccepted(Exception):
    """Nobody took the question in the time of a patient client."""


class Refused(Exception):
    """The answer is no, and a repeat will not change it."""


@dataclass(frozen=True)
class Reply:
    """An answer; without a status the connection broke, and what was done is not known."""

    status: int | None
    body: Any
    retry_after: float | None = None


class Requests:
    """`urls` are the gateways in the order of trying; change it to put a proxy in between."""

    def __init__(
        self,
        history: History,
        urls: Sequence[str],
        token: Callable[[str], str],
        random: random.Random,
    ) -> None:
        self.history = history
        self.urls = list(urls)
        self.user = f"user-{random.getrandbits(64):016x}"
        self.random = random
        self.token = token
        self._turn = count()

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_SECONDS_MAX)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self.session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.session.close()

    async def insist(
        self, method: str, path: str, body: Any = None, *, user: str = "", key: str = ""
    ) -> Reply:
        """Send until there is an answer that stands. Raises NotAccepted, Refused."""
        deadline = time.monotonic() + ASK_SECONDS_MAX
        while time.monotonic() < deadline:
            reply = await self.send(method, path, body, user=user, key=key)
            if reply.status is not None and reply.status < 400:
                return reply
            if reply.status is not None and reply.status < 500 and reply.status not in PASSING:
                raise Refused(f"{method} {path}: {reply.status} {reply.body}")
            await self.pause(reply.retry_after)
        raise NotAccepted(f"{method} {path}")

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str = "",
        key: str = "",
        gateway: int | None = None,
        recorded: bool = True,
    ) -> Reply:
        """One request to one gateway, whatever comes of it."""
        base = self.next_url() if gateway is None else self.urls[gateway % len(self.urls)]
        facts = {"user": user or self.user, "gateway": base, "method": method, "path": path}
        headers = self.headers_of(user or self.user)
        if key:
            headers["Idempotency-Key"] = key
            facts |= {"key": key, "body": hashlib.sha256(json.dumps(body).encode()).hexdigest()[:8]}
            facts |= {"thread_id": (body or {}).get("thread_id")}
        began = time.monotonic()
        try:
            async with (
                asyncio.timeout(REPLY_SECONDS_MAX),
                self.session.request(method, base + path, json=body, headers=headers) as response,
            ):
                content = await response.read()
                reply = Reply(response.status, decoded(content), retry_after_of(response))
            facts |= {"status": reply.status, "answer": _answer(reply), **refusal_of(reply)}
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            reply = Reply(None, None)
            facts["error"] = repr(error)
        if recorded:
            self.history.add("request", ms=round((time.monotonic() - began) * 1000, 1), **facts)
        return reply

    async def read(self, job_id: str, user: str, after: int) -> list[Event]:
        """One stream behind a place, of a job that is over: what comes before it ends, or before
        REPLY_SECONDS_MAX. Not recorded; may raise as aiohttp."""
        path = f"/v1/jobs/{job_id}/events?after={after}"
        headers = self.headers_of(user)
        base = self.next_url()
        events: list[Event] = []
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(REPLY_SECONDS_MAX),
                self.session.get(base + path, headers=headers) as response,
            ):
                response.raise_for_status()
                async for event in parse_sse(response.content):
                    events.append(event)
        return [{k: v for k, v in event.items() if k != "id"} for event in events]

    def next_url(self) -> str:
        """The gateway whose turn it is."""
        return self.urls[next(self._turn) % len(self.urls)]

    def headers_of(self, user: str) -> dict[str, str]:
        """Who asks."""
        return {"Authorization": f"Bearer {self.token(user)}"}

    async def pause(self, retry_after: float | None) -> None:
        """What a polite client waits, less than it is told to: this one has little time."""
        wait = min(retry_after or 0.0, PAUSE_SECONDS_MAX)
        await asyncio.sleep(wait + self.random.uniform(0.05, PAUSE_SECONDS_MAX))


def decoded(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return {"code": "not_json", "text": content[:200].decode(errors="replace")}


def _answer(reply: Reply) -> dict[str, Any]:
    """The ids and the state an answer names."""
    told = ("job_id", "thread_id", "message_id", "status")
    body = reply.body if isinstance(reply.body, dict) and (reply.status or 500) < 300 else {}
    return {name: body[name] for name in told if name in body}


def refusal_of(reply: Reply) -> dict[str, Any]:
    if reply.status is None or reply.status < 400:
        return {}
    code = reply.body.get("code") if isinstance(reply.body, dict) else None
    return {"code": code, "retry_after": reply.retry_after}


def retry_after_of(response: aiohttp.ClientResponse) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None
