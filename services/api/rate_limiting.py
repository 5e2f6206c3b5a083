"""Counts requests, refuses those over a limit, and tells every caller how far they are.

The fields are those of draft-ietf-httpapi-ratelimit-headers-10. A request is counted once: when it
is known whose it is, or when it is refused because nobody knows.

    strangers ──▶ authentication ──▶ callers ──▶ route
        └── on 401: the address         └── the user and the address, in one round trip
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, cast

from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.api.authentication import Caller
from services.api.problems import TooManyRequests
from services.api.request_limits import RequestLimits, Standing, retry_seconds
from shared.quotas import WINDOW_SECONDS

POLICY: Final = "RateLimit-Policy"
STANDING: Final = "RateLimit"


class StrangerLimit:
    """In front of authentication: refused tokens cost their address."""

    def __init__(self, app: ASGIApp, limits: RequestLimits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except NotAuthorizedException:
            _refuse_over(await self._limits.count(user=None, host=_host(scope)))
            raise


class CallerLimit:
    """Behind authentication: requests cost their user and their address."""

    def __init__(self, app: ASGIApp, limits: RequestLimits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = cast("Caller | None", dict(scope).get("user"))  # OPTIONS is answered to everybody
        standings = await self._limits.count(user=caller and caller.user, host=_host(scope))
        _refuse_over(standings)
        if not standings:
            await self._app(scope, receive, send)
            return
        fields = [
            (name.lower().encode(), value.encode())
            for name, value in rate_fields(standings).items()
        ]

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *fields]
            await send(message)

        await self._app(scope, receive, send_with_fields)


def around(
    limit: type[StrangerLimit | CallerLimit], limits: RequestLimits
) -> Callable[[ASGIApp], ASGIApp]:
    """The middleware, bound to its limits: the framework would copy those of a definition."""

    def middleware(app: ASGIApp) -> ASGIApp:
        return limit(app, limits)

    return middleware


def rate_fields(standings: Sequence[Standing]) -> dict[str, str]:
    """The header fields: what is allowed, and what is left of it."""
    return {
        POLICY: ", ".join(f'"{s.policy}";q={s.quota};w={WINDOW_SECONDS}' for s in standings),
        STANDING: ", ".join(
            f'"{s.policy}";r={s.left};t={math.ceil(s.full_seconds)}' for s in standings
        ),
    }


def _refuse_over(standings: Sequence[Standing]) -> None:
    """Raises TooManyRequests when one of them is over its limit."""
    seconds = retry_seconds(standings)
    if seconds is not None:
        raise TooManyRequests(seconds, rate_fields(standings))


def _host(scope: Scope) -> str | None:
    """Where the request comes from: the connection, or what a trusted proxy says of it."""
    client = ASGIConnection(scope).client
    return client.host if client else None
