"""Tickets for one's own streams: made for a thread or a job, out of the token that asks."""

from __future__ import annotations

import time
from dataclasses import dataclass

from services.api.authentication import Caller
from services.api.jobs import JobsOfUser
from services.api.threads import Threads
from shared.keys import TICKET_SECONDS
from shared.tickets import Holder, Tickets


@dataclass(frozen=True, slots=True)
class Ticket:
    ticket: str
    expires_in: int


class TicketDesk:
    def __init__(self, tickets: Tickets, threads: Threads, jobs: JobsOfUser) -> None:
        self._tickets, self._threads, self._jobs = tickets, threads, jobs

    async def for_thread(self, caller: Caller, thread_id: str) -> Ticket:
        """Raises NotFound: no such thread, or not this user's; LogUnavailable."""
        await self._threads.get(caller.user, thread_id)
        return await self._issue(caller, thread_id)

    async def for_job(self, caller: Caller, job_id: str) -> Ticket:
        """Raises NotFound: no such job, or not this user's; LogUnavailable."""
        await self._jobs.get(caller.user, job_id)
        return await self._issue(caller, job_id)

    async def _issue(self, caller: Caller, thing_id: str) -> Ticket:
        """A ticket ends no later than its token, which may be accepted a moment too long."""
        seconds = max(1, min(TICKET_SECONDS, caller.expires_at - int(time.time())))
        holder = Holder(caller.user, caller.session_id, caller.expires_at)
        return Ticket(await self._tickets.issue(holder, thing_id, seconds=seconds), seconds)
