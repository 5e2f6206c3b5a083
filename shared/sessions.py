"""Sessions: a user's devices, as they name themselves, for two hours behind the last use of each.

A session is a name, not a right: what it may do is its user's token to say. A Redis that forgets
knows a device again with its next request.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from shared.keys import SESSION_SECONDS, sessions_of_user
from shared.redis_client import Redis
from shared.redis_scripts import Call, Script, run

SESSIONS_MAX: Final = 100  # of a user; of more, the longest unused are forgotten


class Session(NamedTuple):
    session_id: str
    used_at: datetime


class Sessions:
    """Stateless: any number may work on the same Redis. Every method raises LogUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._keep = Script("keep_session")

    async def use(self, user: str, session_id: str) -> None:
        """It lives for SESSION_SECONDS from now on."""
        await self._run(user, session_id)

    async def of(self, user: str) -> list[Session]:
        """Those that live, the last used first."""
        found = await self._run(user, "")
        pairs = zip(found[::2], found[1::2], strict=True)
        return [
            Session(name.decode(), datetime.fromtimestamp(float(at_ms) / 1000, UTC))
            for name, at_ms in pairs
        ]

    async def _run(self, user: str, session_id: str) -> Sequence[bytes]:
        args = [session_id, SESSION_SECONDS * 1000, SESSIONS_MAX]
        return await run(self._redis, Call(self._keep, [sessions_of_user(user)], args))
