"""Who calls: a bearer JWT, checked on every route but the open ones.

HS256 alone is accepted, `sub` and `exp` are required, `aud` and `iss` are checked when set. Every
refusal reads the same, so that nobody learns which check failed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, cast

import jwt
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

TOKEN_BYTES_MAX: Final = 8 * 1024
USER_CHARS_MAX: Final = 128
LEEWAY_SECONDS: Final = 5
_SESSION_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Caller:
    """The user, the device if it names itself, and when the token ends (seconds since 1970)."""

    user: str
    session_id: str | None
    expires_at: int


class TokenVerifier:
    def __init__(self, secret: str, *, audience: str | None, issuer: str | None) -> None:
        self._secret, self._audience, self._issuer = secret, audience, issuer

    def verify(self, token: str) -> tuple[str, int]:
        """The user and the expiry. Raises NotAuthorizedException."""
        if len(token) > TOKEN_BYTES_MAX:
            raise NotAuthorizedException()
        try:
            claims = cast("Any", jwt).decode(
                token,
                self._secret,
                algorithms=["HS256"],
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
        return user, int(claims["exp"])


def is_user(name: str) -> bool:
    """Whether a token may name a user so."""
    return 0 < len(name) <= USER_CHARS_MAX and name.isprintable()


def authentication_middleware(verifier: TokenVerifier) -> type[AbstractAuthenticationMiddleware]:
    """The middleware, bound to its verifier."""

    class Authentication(AbstractAuthenticationMiddleware):
        async def authenticate_request(
            self, connection: ASGIConnection[Any, Any, Any, Any]
        ) -> AuthenticationResult:
            user, expires_at = verifier.verify(
                _bearer(connection.headers.getall("authorization", []))
            )
            session_id = connection.headers.get("x-session-id")
            if session_id is not None and not _SESSION_ID.fullmatch(session_id):
                session_id = None
            return AuthenticationResult(user=Caller(user, session_id, expires_at), auth=None)

    return Authentication


def _bearer(given: list[str]) -> str:
    """The token of the one Authorization header. Raises NotAuthorizedException."""
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthorizedException()
    return token.strip()
