"""One-use tickets: they stand for a token where a browser cannot send a header.

A ticket opens the streams of one thread, or of one job, once, for a moment. Redis knows its hash
only, made together with what it is for: so it is not found anywhere else, and who reads Redis
cannot use one. A Redis that forgets costs a client its ticket, and the client gets another.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass
from typing import Final

from shared.ids import is_job_id, is_thread_id, partition_of, partition_of_thread
from shared.keys import PartitionKeys
from shared.redis_client import Redis
from shared.redis_scripts import Call, Script, run

TICKET_BYTES: Final = 32  # of chance
_TICKET: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # as many in base64url


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose token it was: its user, its session, and when it ends (seconds since 1970)."""

    user: str
    session_id: str | None
    expires_at: int


class Tickets:
    """Stateless: any number may work on the same Redis. Raises LogUnavailable."""

    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis = redis
        self._partitions = partitions
        self._issue, self._redeem = Script("issue_ticket"), Script("redeem_ticket")

    async def issue(self, holder: Holder, thing_id: str, *, seconds: int) -> str:
        """A new ticket for the streams of a thread or job, named by a well-formed id."""
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        call = Call(
            self._issue, [self._key(ticket, thing_id)], [json.dumps(asdict(holder)), seconds]
        )
        await run(self._redis, call)
        return ticket

    async def redeem(self, ticket: str, thing_id: str) -> Holder | None:
        """Who it was made for, the first time. None: used, over, for another thing, or made up."""
        is_named = is_thread_id(thing_id) or is_job_id(thing_id)
        if not (is_named and _TICKET.fullmatch(ticket)):
            return None
        visit = secrets.token_hex(8)  # the same call may be sent twice
        found = await run(self._redis, Call(self._redeem, [self._key(ticket, thing_id)], [visit]))
        return Holder(**json.loads(found)) if found else None

    def _key(self, ticket: str, thing_id: str) -> str:
        digest = hashlib.sha256(f"{thing_id}:{ticket}".encode()).hexdigest()
        partition = (
            partition_of(thing_id)
            if is_job_id(thing_id)
            else partition_of_thread(thing_id, self._partitions)
        )
        return PartitionKeys(partition).ticket(digest)
