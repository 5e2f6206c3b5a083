"""The header fields that every answer carries, whoever gives it, and why.

| field | because |
|---|---|
| `X-Content-Type-Options` | what a user has written is never taken for a page or a script |
| `Content-Security-Policy` | opened as a page, an answer loads and runs nothing, framed by nobody |
| `Referrer-Policy` | an address may hold a ticket: it goes nowhere |
| `Cross-Origin-Resource-Policy` | another site's page cannot pull an answer into its process |
| `Cross-Origin-Opener-Policy` | nor keep a handle on the window that shows one |
| `Cache-Control` | an answer is for its caller: no cache keeps it |

A route that says otherwise (a file that may be kept) is left alone. Strict-Transport-Security is
the reverse proxy's to say: it has the certificate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from litestar import Litestar
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Message, Receive, Scope, Send

NOTHING: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
FIELDS: Final = {
    b"x-content-type-options": b"nosniff",
    b"content-security-policy": NOTHING.encode(),
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
NOT_KEPT: Final = (b"cache-control", b"no-store")
PAGE_POLICY: Final = "page_policy"  # in the state of a request's scope: what its page needs
OPEN_TO_CACHES: Final = (
    "/schema"  # the same for everybody: the document, its page and what that loads
)


class AnswerFields:
    """Around the application. Also says truly which methods there are, where OPTIONS asks.

    ``methods`` are those of each route's template: the framework's own answer to OPTIONS knows only
    the handlers that it met first.
    """

    def __init__(self, app: ASGIApp, methods: Mapping[str, str]) -> None:
        self._app, self._methods = app, methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        known = cast("Any", scope)  # what the application learns of the request

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [field for field in message["headers"] if field[0] != _untrue(known)]
                message["headers"] = [*given, *self._missing(known, {name for name, _ in given})]
            await send(message)

        await self._app(scope, receive, send_with_fields)

    def _missing(self, scope: Any, given: set[bytes]) -> list[tuple[bytes, bytes]]:
        fields = dict(FIELDS)
        if policy := scope["state"].get(PAGE_POLICY):
            fields[b"content-security-policy"] = policy.encode()
        if not scope["path"].startswith(OPEN_TO_CACHES):
            fields |= [NOT_KEPT]
        template = scope.get("path_template")
        if scope["method"] == "OPTIONS" and template in self._methods:
            fields[b"allow"] = self._methods[template].encode()
        return [field for field in fields.items() if field[0] not in given]


def _untrue(scope: Any) -> bytes:
    """The name of a field that is replaced."""
    return b"allow" if scope["method"] == "OPTIONS" else b""


def methods_by_template(app: Litestar) -> dict[str, str]:
    """What `Allow` is to say of each route."""
    return {
        route.path_format: ", ".join(sorted(route.methods))
        for route in app.routes
        if isinstance(route, HTTPRoute)
    }
