"""The storm: people go on asking while faults strike by seed, several at a time.

    questions ──▶ asked, watched by one or two, now and then cancelled, or in a thread that is busy
    strikes ────▶ a fault, a pause, a fault …   FAULTS_AT_ONCE_MAX at a time, one at a time per part

Both follow from the seed (forecast.py), each in its order. One that finds no room waits until there
is some; what the system makes of it all is its own affair.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from tests.faults.arena import Row
from tests.faults.forecast import Question, Strike, questions, strikes
from tests.faults.requests import NotAccepted, Refused
from tests.faults.weather import Weather
from tests.faults.workload import Job

FAULTS_AT_ONCE_MAX: Final = 4
STREAMS_MAX: Final = 14
ASKS_AT_ONCE_MAX: Final = 4
WAITING_IN_A_THREAD_MAX: Final = 3
LOOK_SECONDS: Final = 0.02


class Storm:
    """One storm over a row. `counts`: how often each kind of fault has struck."""

    def __init__(self, row: Row, weather: Weather, seed: int) -> None:
        self._row = row
        self._weather = weather
        self._questions = questions(random.Random(f"{seed} questions"))
        self._strikes = strikes(random.Random(f"{seed} strikes"))
        self._struck: set[Strike] = set()  # the faults at work
        self._asking = 0
        self._end = 0.0
        self.counts: Counter[str] = Counter()
        self.agents: Counter[str] = Counter()

    async def rage(self, seconds: float) -> None:
        """Let it rage for so long, and wait until the last fault is over."""
        self._end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask(group))
            group.create_task(self._strike(group))

    # ── people ─────────────────────────────────────────────────────────────────────────────────

    async def _ask(self, group: asyncio.TaskGroup) -> None:
        for question in self._questions:
            await asyncio.sleep(question.pause)
            if not await self._until(self._somebody_is_free):
                return
            self._asking += 1
            group.create_task(self._one(question))

    def _somebody_is_free(self) -> bool:
        watching = sum(not viewer.is_done for viewer in self._row.users.viewers)
        return self._asking < ASKS_AT_ONCE_MAX and watching < STREAMS_MAX

    async def _one(self, question: Question) -> None:
        users = self._row.users
        thread = {} if question.thread is None else self._thread(question.thread)
        query = f"question {self.agents.total()}"
        self.agents[question.agent] += 1
        try:
            job = await users.ask(query, agent=question.agent, **thread)
        except (Refused, NotAccepted):  # the oracle has to say whether that was right
            return
        finally:
            self._asking -= 1
        if question.fails:
            self._row.doom(job, "failed")
        for _ in range(question.viewers):
            users.watch(job)
        await asyncio.gather(*(self._cancel(job, seconds) for seconds in question.cancels))

    def _thread(self, place: float) -> dict[str, str]:
        """One of the known threads, but for those in which many wait already."""
        users = self._row.users
        waiting = Counter(one.job.thread_id for one in users.viewers if not one.is_done)
        known = [job.thread_id for job in users.jobs]
        known = [thread for thread in known if waiting[thread] < WAITING_IN_A_THREAD_MAX]
        return {"thread_id": known[int(place * len(known))]} if known else {}

    async def _cancel(self, job: Job, seconds: float) -> None:
        await asyncio.sleep(seconds)
        try:
            await self._row.users.cancel(job)
        except (Refused, NotAccepted):
            return

    # ── weather ────────────────────────────────────────────────────────────────────────────────

    async def _strike(self, group: asyncio.TaskGroup) -> None:
        for strike in self._strikes:
            await asyncio.sleep(strike.pause)
            if not await self._until(lambda strike=strike: self._has_room(strike)):
                return
            self.counts[strike.name] += 1
            self._struck.add(strike)
            group.create_task(self._let(strike))

    def _has_room(self, strike: Strike) -> bool:
        taken = any(strike.parts & other.parts for other in self._struck)
        return not taken and len(self._struck) < FAULTS_AT_ONCE_MAX

    async def _let(self, strike: Strike) -> None:
        try:
            await self._weather.strike(strike)
        finally:
            self._struck.discard(strike)

    async def _until(self, condition: Callable[[], bool]) -> bool:
        """Wait for it; false when the storm is over."""
        while time.monotonic() < self._end:
            if condition():
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return False
