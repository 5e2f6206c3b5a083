"""CORS: which pages of other origins may read answers, by list and never by wildcard.

A caller shows a token of its own accord: there are no cookies, and no credentials are allowed. A
preflight of a stranger is answered like any OPTIONS, without the fields that a browser looks for.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from litestar.types import ASGIApp, Message, Receive, Scope, Send

METHODS: Final = b"DELETE, GET, PATCH, POST, PUT"
REQUEST_FIELDS: Final = (
    b"Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Range,"
    b" X-Request-Id, X-Session-Id"
)
ANSWER_FIELDS: Final = (
    b"Accept-Ranges, Content-Disposition, Content-Range, ETag, Location, RateLimit,"
    b" RateLimit-Policy, Retry-After, X-Request-Id"
)
PREFLIGHT_SECONDS: Final = 600  # in which a browser need not ask again

Field = tuple[bytes, bytes]
_BY_ORIGIN: Final = (b"vary", b"Origin")


class CrossOrigin:
    """Around the application. ``origins`` are compared as they stand: `https://app.example`."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = {origin.encode() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._origins:
            await self._app(scope, receive, send)
            return
        sent = dict(scope["headers"])
        origin = sent.get(b"origin", b"")
        is_listed = origin in self._origins
        asks_first = scope["method"] == "OPTIONS" and b"access-control-request-method" in sent
        if is_listed and asks_first:
            await _allow(origin, send)
            return
        fields = [_BY_ORIGIN]
        if is_listed:
            fields += [_allowed(origin), (b"access-control-expose-headers", ANSWER_FIELDS)]

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *fields]
            await send(message)

        await self._app(scope, receive, send_with_fields)


def _allowed(origin: bytes) -> Field:
    return b"access-control-allow-origin", origin


async def _allow(origin: bytes, send: Send) -> None:
    """Answer a preflight."""
    fields: list[Field] = [
        _BY_ORIGIN,
        _allowed(origin),
        (b"access-control-allow-methods", METHODS),
        (b"access-control-allow-headers", REQUEST_FIELDS),
        (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": fields})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
