"""Gives every request an id, binds it to the log lines, and names it in the answer."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from shared.observability import bound, get_logger

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

log = get_logger()


class RequestContext(ASGIMiddleware):
    """Echoes a well-formed ``X-Request-Id``, or makes one. One log line a request, no bodies."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        given = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8).encode()
        status: list[int] = []

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        began = time.monotonic()
        with bound(request_id=request_id.decode()):
            try:
                await next_app(scope, receive, send_with_id)
            finally:
                log.debug("request", **_line(scope, status, began))


def _line(scope: Scope, status: list[int], began: float) -> dict[str, Any]:
    return {
        "method": scope.get("method"),
        "path": scope["path"],
        "status": status[0] if status else None,
        "ms": round((time.monotonic() - began) * 1000, 1),
    }
