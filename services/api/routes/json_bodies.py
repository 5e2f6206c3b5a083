"""Bodies are JSON in UTF-8: what is not is refused before anybody looks into it."""

from __future__ import annotations

from email.message import Message
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import ClientException
from litestar.handlers import BaseRouteHandler


class UnsupportedMediaType(ClientException):
    """Another content type than the route takes."""

    status_code = 415


async def takes_json(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard (a coroutine: others are called in a thread). Raises UnsupportedMediaType."""
    said = Message()
    said["content-type"] = connection.headers.get("content-type", "application/json")
    is_json = said.get_content_type() == "application/json"
    if not is_json or (said.get_content_charset() or "utf-8") not in ("utf-8", "us-ascii"):
        raise UnsupportedMediaType("The body must be application/json, in UTF-8.")
    if connection.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.")


class JsonRequest(Request[Any, Any, Any]):
    """Refuses also what the decoder fails on with an error that is not its own."""

    async def json(self) -> Any:
        """Raises ClientException."""
        try:
            return await super().json()
        except UnicodeDecodeError:
            raise ClientException("The body is not UTF-8.") from None
        except RecursionError:
            raise ClientException("The body is nested too deep.") from None
