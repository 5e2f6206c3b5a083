"""Whose job it is, and how to look at it: an operator need not know the user.

The stores know the owner, and the deployment's own key signs a token in the owner's name, good for
as long as a connection takes to open.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Final

import jwt

from infra.console.errors import ConsoleError
from shared.archive import Archive
from shared.errors import ArchiveUnavailable, LogUnavailable
from shared.hot_state import HotState, Job
from shared.ids import is_job_id
from shared.postgres import Database, create_engine
from shared.redis_client import connect
from shared.settings import Settings

TOKEN_SECONDS: Final = 60
EVERY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Access:
    """Where a job's events are, and the right to read them."""

    job: Job
    url: str
    settings: Settings

    def headers(self) -> dict[str, str]:
        """Of one request; made anew for each, since the token does not last."""
        claims: dict[str, Any] = {"sub": self.job.owner, "exp": int(time.time()) + TOKEN_SECONDS}
        if self.settings.auth_audience is not None:
            claims["aud"] = self.settings.auth_audience
        if self.settings.auth_issuer is not None:
            claims["iss"] = self.settings.auth_issuer
        secret = self.settings.required("auth_secret")
        # PyJWT names key types of a package that HS256 does not need.
        token = jwt.encode(claims, secret, algorithm="HS256")  # pyright: ignore[reportUnknownMemberType]
        return {"Authorization": f"Bearer {token}"}


async def access_to(job_id: str, settings: Settings) -> Access:
    """Raises ConsoleError when there is no such job, or nobody who would know."""
    if not is_job_id(job_id):
        raise ConsoleError(f"{job_id!r} is no job id: one begins with `job_`, as in a 202's body")
    job = await _find(job_id, settings)
    if job is None:
        raise ConsoleError(f"there is no job {job_id}, neither in Redis nor in the archive")
    return Access(job, f"{gateway_url(settings)}/v1/jobs/{job_id}/events", settings)


def gateway_url(settings: Settings) -> str:
    """The gateway, as seen from its own machine."""
    host = LOOPBACK if settings.host in EVERY_ADDRESS else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


async def _find(job_id: str, settings: Settings) -> Job | None:
    """The job as Redis has it, or the archive; one of them is enough if it knows the job."""
    try:
        job = await _find_hot(job_id, settings)
    except LogUnavailable as error:
        job = await _find_archived(job_id, settings)
        if job is None:
            raise ConsoleError(f"{error}, and the archive does not know {job_id}") from None
        return job
    if job is not None:
        return job
    try:
        return await _find_archived(job_id, settings)
    except ArchiveUnavailable as error:
        raise ConsoleError(f"{error}, and Redis does not know {job_id}") from None


async def _find_hot(job_id: str, settings: Settings) -> Job | None:
    redis = connect(settings.required("redis_url"))
    try:
        return await HotState(redis, settings.partitions).job(job_id)
    finally:
        await redis.aclose()


async def _find_archived(job_id: str, settings: Settings) -> Job | None:
    database = Database.at(settings.required("database_url"), settings)
    engine = create_engine(replace(database, connections=1), application="console")
    try:
        return await Archive(engine).job(job_id)
    finally:
        await engine.dispose()
