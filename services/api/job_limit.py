"""How many jobs a user may have waiting or running at once.

A place is taken before a job is accepted. It is given back at once when the job is refused or was a
repeat; when nobody knows what became of it, it is found out as soon as the place is needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from shared.errors import Refused
from shared.event_log import Accepted
from shared.quotas import Quotas


class JobLimit:
    def __init__(self, quotas: Quotas, *, per_user: int) -> None:
        self._quotas, self._per_user = quotas, per_user

    async def admit(
        self, user: str, job_id: str, accept: Callable[[bool], Awaitable[Accepted]]
    ) -> Accepted:
        """Accept a job. ``accept`` is told whether there is room: a repeat needs none.

        Raises what ``accept`` raises; LogUnavailable.
        """
        if not self._per_user:
            return await accept(True)
        if not await self._quotas.take_job(user, job_id, places=self._per_user):
            return await accept(False)
        try:
            accepted = await accept(True)
        except Refused:
            await self._quotas.give_back_job(user, job_id)
            raise
        if accepted.job_id != job_id:
            await self._quotas.give_back_job(user, job_id)
        return accepted
