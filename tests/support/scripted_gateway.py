"""A gateway that does what a script says: an SSE server with a plan for every connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from infra.local.machine import free_port

Ending = Literal["closed", "reset", "open"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one connection is sent, and how it ends. ``problem`` is the code of a refusal."""

    frames: Sequence[bytes] = ()
    ending: Ending = "closed"
    status: int = 200
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    path: str
    token: str
    cursor: str | None


@dataclass
class ScriptedGateway:
    port: int
    answers: list[Answer]
    asked: list[Asked] = field(default_factory=list[Asked])

    async def handle(self, request: web.Request) -> web.StreamResponse:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.asked.append(Asked(request.path, token, request.headers.get("Last-Event-ID")))
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if answer.status != 200:
            problem = {"code": answer.problem, "detail": "Because."}
            return web.json_response(problem, status=answer.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for frame in answer.frames:
            await response.write(frame)
        if answer.ending == "reset" and request.transport is not None:
            request.transport.abort()
        elif answer.ending == "open":
            await asyncio.Event().wait()  # until the client has gone: then it is cancelled
        return response


@asynccontextmanager
async def scripted_gateway(*answers: Answer) -> AsyncGenerator[ScriptedGateway]:
    """The gateway, on a free port. The last answer is given again to whoever comes after it."""
    gateway = ScriptedGateway(free_port(), list(answers))
    app = web.Application()
    app.router.add_get("/v1/jobs/{job_id}/events", gateway.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", gateway.port).start()
        yield gateway
    finally:
        await runner.cleanup()


def frame(seq: int, kind: str, *, at: str = "2026-01-02T03:04:05.678Z", **data: Any) -> bytes:
    """An event as the gateway writes it."""
    body = json.dumps({"type": kind, "seq": seq, "attempt": 1, "at": at, **data})
    return f"id: {seq}\nevent: {kind}\ndata: {body}\n\n".encode()


def started(seq: int = 1, attempt: int = 1, **more: Any) -> bytes:
    return frame(seq, "started", **{"attempt": attempt, "agent": "a", "model": "m", **more})


def token(seq: int, content: str, **more: Any) -> bytes:
    return frame(seq, "token", content=content, deltas=1, **more)


def done(seq: int, **more: Any) -> bytes:
    return frame(seq, "done", status="done", finish_reason="stop", latency_ms=40, **more)
