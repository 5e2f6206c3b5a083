"""In front of WebSockets: who may ask at all, and answers to those who may not come in.

A browser lets any page open a socket to anywhere, and says only whose page it is. So that is looked
at before anything else; what is no browser sends no ``Origin`` and passes. A handshake that is
refused is answered like any other request: with a status and a problem.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.api.problems import ForeignOrigin, problem_of


class SocketDoor:
    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = {origin.encode() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        is_open = False

        async def noting(message: Message) -> None:
            nonlocal is_open
            is_open = is_open or message["type"] == "websocket.accept"
            await send(message)

        try:
            self._check_origin(scope)
            await self._app(scope, receive, noting)
        except Exception as error:
            if is_open:
                raise
            await _refuse(send, error, scope["path"])

    def _check_origin(self, scope: Scope) -> None:
        """Raises ForeignOrigin."""
        given = [value for name, value in scope["headers"] if name == b"origin"]
        if len(given) > 1 or not self._origins.issuperset(given):
            raise ForeignOrigin("Pages of this origin may not open sockets here.")


async def _refuse(send: Send, error: Exception, path: str) -> None:
    answer = problem_of(error, path)
    start: Any = {
        "type": "websocket.http.response.start",
        "status": answer.status_code,
        "headers": [
            (b"content-type", str(answer.media_type).encode()),
            *((name.lower().encode(), value.encode()) for name, value in answer.headers.items()),
        ],
    }
    body: Any = {"type": "websocket.http.response.body", "body": answer.content}
    await send(start)
    await send(body)
