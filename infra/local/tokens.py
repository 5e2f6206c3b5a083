"""Tokens for trying a local cluster out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt

TOKEN_LIFE = timedelta(hours=24)


def make_token(secret: str, subject: str) -> str:
    """A JWT of the user `subject`, signed (HS256) with the cluster's key."""
    now = datetime.now(UTC)
    claims = {"sub": subject, "iat": now, "exp": now + TOKEN_LIFE}
    # PyJWT names key types of a package that HS256 does not need.
    return jwt.encode(claims, secret, algorithm="HS256")  # pyright: ignore[reportUnknownMemberType]
