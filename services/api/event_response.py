"""A body that is written while it comes into being, in the request's own task.

The framework's streams have a second task each, which waits for the client to leave, and a group
around both. Here the connection tells, and what the body waits for ends: less memory for each of
many idle clients, and less work for each answer.

    connection lost ──▶ Farewell ──▶ leave() ──▶ the body ends ──▶ closed
                          ▲ an extension of the request's scope

Failures
    Client gone         ``leave`` is called. What the body still says goes nowhere.
    Request cancelled   The body is closed, as with any other end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final, cast

from litestar.response import Stream
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send

FAREWELL: Final = "headwater.farewell"  # among the extensions of a request's scope

Leave = Callable[[], None]


class Farewell:
    """Tells whoever writes to a connection that it is lost."""

    __slots__ = ("_is_said", "_leave")

    def __init__(self) -> None:
        self._leave: Leave | None = None
        self._is_said = False

    def say(self) -> None:
        self._is_said = True
        if self._leave is not None:
            self._leave()

    def telling(self, leave: Leave) -> Farewell:
        """Call ``leave`` when it is said within the block, or was before."""
        self._leave = leave
        if self._is_said:
            leave()
        return self

    def __enter__(self) -> None:
        """See ``telling``."""

    def __exit__(self, *_: object) -> None:
        self._leave = None


class EventResponse(Stream):
    """``leave`` makes the body end soon."""

    def __init__(
        self, body: AsyncGenerator[bytes], leave: Leave, *, media_type: str, headers: dict[str, str]
    ) -> None:
        super().__init__(body, media_type=media_type, headers=headers, status_code=200)
        self._leave = leave

    def to_asgi_response(self, *args: Any, **options: Any) -> Any:
        head = cast("Any", super()).to_asgi_response(*args, **options)
        return _Written(head, self._leave)


class _Written:
    """The application that answers."""

    def __init__(self, head: ASGIStreamingResponse, leave: Leave) -> None:
        self._head, self._leave = head, leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        farewell: Farewell = cast("Any", scope)["extensions"][FAREWELL]
        async with aclosing(cast("AsyncGenerator[bytes]", self._head.iterator)) as body:
            await self._head.start_response(send)
            with farewell.telling(self._leave):
                async for data in body:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        await self._head.after_response()
