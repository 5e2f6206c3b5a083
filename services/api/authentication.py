"""Who calls: a bearer JWT, or a one-use ticket where a browser cannot send a header.

The algorithm a token names decides whose key may verify it: HS256 the shared secret, RS256, ES256
and EdDSA the issuer's published keys. `sub` and `exp` are required, `aud` and `iss` are checked
when set. Every refusal reads the same, so that nobody learns which check failed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import parse_qsl

import jwt
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from services.api.key_fetching import FetchedKeys
from services.api.problems import BadRequest
from shared.tickets import Tickets

TOKEN_BYTES_MAX: Final = 8 * 1024
USER_CHARS_MAX: Final = 128
LEEWAY_SECONDS: Final = 5
EXPIRES_AT_MAX: Final = 253_402_300_799  # the year 9999: what timers and clocks can hold
TICKET_FOR: Final = "ticket_for"  # a route's option: the path parameter that a ticket is bound to
_SESSION_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TOKEN: Final = re.compile(r"(?:Bearer )?\s*eyJ[\w-]*\.[\w-]*\.[\w-]*\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """The user, the device if it names itself, and when the token ends (seconds since 1970)."""

    user: str
    session_id: str | None
    expires_at: int


class TokenVerifier:
    """With a secret, with published keys, or with both."""

    def __init__(
        self,
        secret: str | None,
        keys: FetchedKeys | None,
        *,
        audience: str | None,
        issuer: str | None,
    ) -> None:
        self._secret, self._keys = secret, keys
        self._audience, self._issuer = audience, issuer

    async def verify(self, token: str) -> tuple[str, int]:
        """The user and the expiry. Raises NotAuthorizedException, KeysUnavailable."""
        if len(token) > TOKEN_BYTES_MAX:
            raise NotAuthorizedException()
        try:
            header = jwt.get_unverified_header(token)
            claims = cast("Any", jwt).decode(
                token,
                await self._key(header),
                algorithms=[header["alg"]],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["sub", "exp"], "verify_aud": self._audience is not None},
            )
        except (jwt.PyJWTError, OverflowError):  # an `exp` of Infinity
            raise NotAuthorizedException() from None
        user = claims["sub"]
        if not (isinstance(user, str) and is_user(user)):
            raise NotAuthorizedException()
        return user, min(int(claims["exp"]), EXPIRES_AT_MAX)

    async def _key(self, header: dict[str, Any]) -> Any:
        """The one key that a token with this header may be verified with."""
        algorithm, key = header.get("alg"), None
        if algorithm == "HS256":
            key = self._secret
        elif self._keys is not None and isinstance(algorithm, str):
            key = await self._keys.find(algorithm, header.get("kid"))
        if key is None:
            raise NotAuthorizedException()
        return key


def is_user(name: str) -> bool:
    """Whether a token may name a user so."""
    return 0 < len(name) <= USER_CHARS_MAX and name.isprintable()


def is_session_id(name: str) -> bool:
    """Whether a device may be named so."""
    return _SESSION_ID.fullmatch(name) is not None


def authentication_middleware(
    verifier: TokenVerifier, tickets: Tickets
) -> type[AbstractAuthenticationMiddleware]:
    """The middleware, bound to what it asks."""

    class Authentication(AbstractAuthenticationMiddleware):
        async def authenticate_request(
            self, connection: ASGIConnection[Any, Any, Any, Any]
        ) -> AuthenticationResult:
            _refuse_token_in_url(connection.scope["query_string"])
            caller = await _by_ticket(connection, tickets) or await _by_token(connection, verifier)
            return AuthenticationResult(user=caller, auth=None)

    return Authentication


async def _by_token(
    connection: ASGIConnection[Any, Any, Any, Any], verifier: TokenVerifier
) -> Caller:
    token = _bearer(connection.headers.getall("authorization", []))
    user, expires_at = await verifier.verify(token)
    session_id = connection.headers.get("x-session-id")
    if session_id is not None and not is_session_id(session_id):
        session_id = None
    return Caller(user, session_id, expires_at)


async def _by_ticket(
    connection: ASGIConnection[Any, Any, Any, Any], tickets: Tickets
) -> Caller | None:
    """Who the ticket was made for; None where there is none, or the route takes none."""
    parameter = connection.route_handler.opt.get(TICKET_FOR)
    given = connection.query_params.getall("ticket", []) if parameter else []
    if not given:
        return None
    if len(given) > 1 or "authorization" in connection.headers:
        raise NotAuthorizedException()
    holder = await tickets.redeem(given[0], connection.path_params[parameter])
    if holder is None:
        raise NotAuthorizedException()
    return Caller(holder.user, holder.session_id, holder.expires_at)


def _bearer(given: list[str]) -> str:
    """The token of the one Authorization header. Raises NotAuthorizedException."""
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthorizedException()
    return token.strip()


def _refuse_token_in_url(query: bytes) -> None:
    """Raises BadRequest. Whatever it is called there: proxies, histories and logs keep URLs."""
    if any(_TOKEN.fullmatch(value) for _, value in parse_qsl(query.decode("latin-1"))):
        raise BadRequest(
            "token_in_url",
            "A token does not belong in a URL. Send it as Authorization: Bearer, or get a ticket.",
        )
