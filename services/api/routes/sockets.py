"""/v1/threads/{thread_id}/ws"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any, Final

from litestar import WebSocket, websocket
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromPath, SkipValidation

from services.api.authentication import TICKET_FOR, Caller, is_session_id
from services.api.close_codes import BINARY, Close
from services.api.socket_requests import Visit
from services.api.sockets import ClientGone, Sockets

SESSION: Final = "ses_"  # of a client that names none


class _Wire:
    """The framework's socket, whose ends are one exception."""

    def __init__(self, socket: WebSocket[Any, Any, Any]) -> None:
        self._socket = socket
        self._is_closed = False

    async def receive(self) -> str | None:
        try:
            event: Any = await self._socket.receive()
        except WebSocketDisconnect:
            return None
        if event["type"] == "websocket.disconnect":
            self._is_closed = True
            return None
        text = event.get("text")
        if text is None:
            await self.close(BINARY)
        return text

    async def send(self, frame: bytes) -> None:
        if self._is_closed:
            raise ClientGone()
        event: Any = {"type": "websocket.send", "text": frame.decode(), "bytes": None}
        try:
            await self._socket.send(event)
        except (OSError, WebSocketDisconnect):
            self._is_closed = True
            raise ClientGone() from None

    async def close(self, close: Close) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._socket.close(close.code, close.reason)
        except (OSError, WebSocketDisconnect):
            return


@websocket("/v1/threads/{thread_id:str}/ws", opt={TICKET_FOR: "thread_id"})
async def thread_socket(
    socket: WebSocket[Any, Any, Any],
    thread_id: FromPath[str],
    sockets: NamedDependency[SkipValidation[Sockets]],
) -> None:
    await socket.accept()
    visit = _visit(socket, thread_id)
    await sockets.serve(_Wire(socket), visit, after=socket.query_params.get("after"))


def _visit(socket: WebSocket[Any, Any, Any], thread_id: str) -> Visit:
    """A device is named as everywhere, or in the address, where a browser can."""
    caller: Caller = socket.user
    named = caller.session_id or socket.query_params.get("session")
    session_id = named if named and is_session_id(named) else SESSION + secrets.token_hex(8)
    return Visit(
        caller=replace(caller, session_id=session_id),
        session_id=session_id,
        socket_id=secrets.token_hex(8),
        thread_id=thread_id,
        host=socket.client.host if socket.client else None,
    )


HANDLERS = [thread_socket]
