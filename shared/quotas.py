"""What users and addresses have used of their limits, counted in Redis for all gateways.

    requests   a bucket per user and per address that fills steadily; a request takes one out
    jobs       a set per user of job ids, in places; when all are taken, it is looked up who is over
    streams    a set per user of leases, which gateways renew while their streams are open
    sockets    another such set

Each is one key, and each script touches one, whatever slot it is in. Nothing is counted up and
down: a place belongs to a name, and a name whose owner is gone is found out, by the job's own hash
or by the clock. So nothing that dies, or is lost, leaves a count behind.

Failures
    Redis lost the key    Everybody has used nothing: leases come back with their next renewal, jobs
                          of before are not counted any more.
    Redis away            LogUnavailable; what that means for a request is the caller's to decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from shared.ids import partition_of
from shared.keys import (
    PartitionKeys,
    address_rate,
    jobs_of_user,
    sockets_of_user,
    streams_of_user,
    user_rate,
)
from shared.redis_client import Redis, translate
from shared.redis_scripts import Argument, Call, Script, run, run_many
from shared.states import FINAL_STATUSES

WINDOW_SECONDS: Final = 60
ACCEPTING_SECONDS_MAX: Final = 30.0  # between taking a place and the job's own hash
JOBS_KEPT_SECONDS: Final = 3600  # behind the user's last one
STREAM_LEASE_SECONDS: Final = 30.0
Kind = Literal["streams", "sockets"]
_KEYS: Final = {"streams": streams_of_user, "sockets": sockets_of_user}
_LEASE_MS: Final = round(STREAM_LEASE_SECONDS * 1000)


@dataclass(frozen=True, slots=True)
class Spent:
    """What became of a request, and what is left."""

    allowed: bool
    left: int
    full_seconds: float  # until everything is there again
    retry_seconds: float  # until one is there again; 0 when this one was allowed


@dataclass(frozen=True, slots=True)
class Renewal:
    """One user's streams on this gateway: those that are open, and those that were closed."""

    user: str
    opened: Sequence[str]
    closed: Sequence[str]


class Quotas:
    """Stateless: any number may work on the same Redis. Every method raises LogUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._spend, self._take = Script("spend_request"), Script("take_job")
        self._open, self._keep = Script("open_stream"), Script("keep_streams")

    # ── requests ───────────────────────────────────────────────────────────────────────────────

    async def spend(
        self, *, user: tuple[str, int] | None, address: tuple[str, int] | None
    ) -> list[Spent]:
        """Take one request from each that is given with its limit per minute, in that order.

        One round trip; each is atomic by itself.
        """
        buckets = [(user_rate(user[0]), user[1])] if user else []
        buckets += [(address_rate(address[0]), address[1])] if address else []
        calls = [
            Call(self._spend, [name], [limit, WINDOW_SECONDS * 1000]) for name, limit in buckets
        ]
        found: list[Spent] = []
        for reply in await run_many(self._redis, calls):
            if isinstance(reply, Exception):
                raise reply
            allowed, left, full_ms, retry_ms = reply
            found.append(Spent(allowed == 1, left, full_ms / 1000, retry_ms / 1000))
        return found

    # ── jobs ───────────────────────────────────────────────────────────────────────────────────

    async def take_job(self, user: str, job_id: str, *, places: int) -> bool:
        """Take a place for a job that is about to be accepted; False when all are in use.

        One round trip; two more when all seem to be, to look which of these jobs are over.
        """
        held = await self._try_to_take(user, job_id, places, over=())
        if held is None:
            return True
        over = await self._over(held)
        return bool(over) and await self._try_to_take(user, job_id, places, over=over) is None

    async def give_back_job(self, user: str, job_id: str) -> None:
        """The job was not accepted."""
        with translate():
            await cast("Any", self._redis).zrem(jobs_of_user(user), job_id)

    async def _try_to_take(
        self, user: str, job_id: str, places: int, *, over: Sequence[str]
    ) -> Mapping[str, float] | None:
        """None when a place was taken; otherwise who holds them, and for how many seconds."""
        args: list[Argument] = [job_id, places, JOBS_KEPT_SECONDS * 1000, *over]
        code, *held = await run(self._redis, Call(self._take, [jobs_of_user(user)], args))
        if code == b"TAKEN":
            return None
        pairs = zip(held[::2], held[1::2], strict=True)
        return {holder.decode(): age_ms / 1000 for holder, age_ms in pairs}

    async def _over(self, held: Mapping[str, float]) -> list[str]:
        """The jobs that have ended, that never were accepted, or that nobody knows any more."""
        with translate():
            pipeline = self._redis.pipeline(transaction=False)
            for job_id in held:
                pipeline.hget(PartitionKeys(partition_of(job_id)).job(job_id), "status")
            statuses = cast("list[bytes | None]", await pipeline.execute())
        return [
            job_id
            for (job_id, seconds), status in zip(held.items(), statuses, strict=True)
            if _is_over(status, seconds)
        ]

    # ── streams ────────────────────────────────────────────────────────────────────────────────

    async def open_stream(
        self,
        user: str,
        stream_id: str,
        *,
        places: int,
        closed: Sequence[str] = (),
        kind: Kind = "streams",
    ) -> bool:
        """Lease a place for STREAM_LEASE_SECONDS; False when all are leased.

        Those of ``closed`` streams are given up in the same step.
        """
        args: list[Argument] = [stream_id, places, _LEASE_MS, *closed]
        return bool(await run(self._redis, Call(self._open, [_KEYS[kind](user)], args)))

    async def keep_streams(self, renewals: Sequence[Renewal], *, kind: Kind = "streams") -> None:
        """Renew leases and give up others, in one round trip."""
        calls = [
            Call(
                self._keep,
                [_KEYS[kind](renewal.user)],
                [_LEASE_MS, len(renewal.opened), *renewal.opened, *renewal.closed],
            )
            for renewal in renewals
        ]
        for reply in await run_many(self._redis, calls):
            if isinstance(reply, Exception):
                raise reply


def _is_over(status: bytes | None, seconds: float) -> bool:
    """Whether a job of this status, which has held its place so long, needs it no more."""
    if status is None:
        return seconds > ACCEPTING_SECONDS_MAX
    return status.decode() in FINAL_STATUSES
