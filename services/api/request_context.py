"""Gives every request an id, binds it to the log lines, names it in the answer; and counts it."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any, Final, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.api.metrics import Metrics
from services.api.problems import PROBLEM_CODE
from shared.observability import bound, get_logger

OPENED_STATUS: Final = 101  # of a WebSocket that is let in
CLIENT_LEFT_STATUS: Final = 499  # in the figures: it left before its answer began
_ANSWERS: Final = ("http.response.start", "websocket.http.response.start", "websocket.accept")
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

log = get_logger()


class RequestContext:
    """Around the whole application, so that no answer is without it.

    Echoes a well-formed ``X-Request-Id``, or makes one. One log line a request, no bodies.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8).encode()
        asked: Any = scope
        line: dict[str, Any] = {"method": asked.get("method", "GET"), "path": scope["path"]}
        began = time.monotonic()

        async def send_with_id(message: Message) -> None:
            if message["type"] in _ANSWERS:
                answer = cast("Any", message)
                line["status"] = answer.get("status", OPENED_STATUS)
                self._count(scope, line["status"], time.monotonic() - began)
                answer["headers"] = [*answer["headers"], (b"x-request-id", request_id)]
            await send(message)

        with bound(request_id=request_id.decode()):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                if "status" not in line:
                    self._count(scope, CLIENT_LEFT_STATUS, time.monotonic() - began)
                log.debug("request", **line, ms=round((time.monotonic() - began) * 1000, 1))

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        known = cast("Any", scope)  # what the application has learned of the request
        self._metrics.count(
            method=known.get("method", "GET"),
            route=known.get("path_template"),
            status=status,
            code=known.get("state", {}).get(PROBLEM_CODE),
            seconds=seconds,
        )
