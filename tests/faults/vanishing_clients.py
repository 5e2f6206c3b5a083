"""Faults: clients that are gone before they have said all, or heard anything, or heard all."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.faults.arena import Row

SAY_SECONDS_MAX = 3.0
TAKEN_BYTES_MAX = 4000
QUESTION = json.dumps({"query": "who is there?", "agent": "quick"}).encode()


async def break_off(row: Row, url: str) -> None:
    """Half of a question."""
    head = f"Content-Type: application/json\r\nContent-Length: {len(QUESTION)}\r\n\r\n"
    async with _said(row, url, "POST /v1/jobs", head.encode() + QUESTION[: len(QUESTION) // 2]):
        pass


async def ask_and_vanish(row: Row, url: str, chance: random.Random) -> None:
    """A question whose answer nobody takes: it may become a job."""
    key = f"key-{chance.getrandbits(64):016x}"
    asked = {"method": "POST", "path": "/v1/jobs", "key": key, "user": row.users.user}
    row.history.add("request", **asked, gateway=url, error="vanished")
    head = (
        f"Content-Type: application/json\r\nContent-Length: {len(QUESTION)}\r\n"
        f"Idempotency-Key: {key}\r\n\r\n"
    )
    async with _said(row, url, "POST /v1/jobs", head.encode() + QUESTION):
        pass


async def read_and_vanish(row: Row, url: str, chance: random.Random) -> None:
    """A stream of which only the front is taken."""
    if not row.users.jobs:
        return
    path = f"GET /v1/jobs/{chance.choice(row.users.jobs).job_id}/events"
    async with _said(row, url, path, b"\r\n") as reader:
        await reader.read(chance.randrange(1, TAKEN_BYTES_MAX))


@asynccontextmanager
async def _said(row: Row, url: str, what: str, rest: bytes) -> AsyncGenerator[asyncio.StreamReader]:
    """A connection over which this was said, which is reset at the end. OSError, TimeoutError."""
    parts = urlsplit(url)
    token = row.cluster.token(row.users.user)
    head = f"{what} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
    async with asyncio.timeout(SAY_SECONDS_MAX):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(head.encode() + rest)
            await writer.drain()
            yield reader
        finally:
            writer.transport.abort()
