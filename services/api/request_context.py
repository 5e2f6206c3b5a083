"""Gives every request an id, binds it to the log lines, and names it in the answer."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any, Final

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from shared.observability import bound, get_logger

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

log = get_logger()


class RequestContext:
    """Around the whole application, so that no answer is without it.

    Echoes a well-formed ``X-Request-Id``, or makes one. One log line a request, no bodies.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8).encode()
        line: dict[str, Any] = {"method": scope["method"], "path": scope["path"]}

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                line["status"] = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        began = time.monotonic()
        with bound(request_id=request_id.decode()):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                log.debug("request", **line, ms=round((time.monotonic() - began) * 1000, 1))
