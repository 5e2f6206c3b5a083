"""Who has something to archive waits for a round, which takes along what all the others have.

    reader 0 ── share ──┐
    reader 1 ── share ──┼─▶ waiting ─▶ a round: one transaction ─▶ each knows how its own share went
    reader 2 ── share ──┘

A transaction costs about the same for one event as for a hundred, so what trickles in from many
partitions is gathered: a small round begins GATHER_SECONDS after the first of it came, REST_SECONDS
after the one before, and alone. A reader that was in it rests as long, and comes back just before.
Under load nobody waits for others: a round of ENTRIES_MIN begins at once, while another is under
way, so that Python and Postgres work at the same time.

A round has one share of a partition at most. Those of a round that is under way may be of the same
ones: then it is Postgres that keeps them apart.

Failures
    The work raises   All that were in the round are told, and nobody else.
    Somebody leaves   (Cancelled.) Their share may be archived all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.persister.batch import Share

ENTRIES_MIN: Final = 2000  # of a round that begins at once
ENTRIES_MAX: Final = 4000  # of a round of several shares; each is of a bounded size itself
UNDER_WAY_MAX: Final = 2
GATHER_SECONDS: Final = 0.025  # readers who come back at the same time are that far apart
REST_SECONDS: Final = 0.05
LONG_REST_SECONDS: Final = 0.1  # behind a round of less than FEW_ENTRIES
FEW_ENTRIES: Final = 600

Outcome = Exception | None
Work = Callable[[Sequence[Share]], Awaitable[Sequence[Outcome]]]


@dataclass(eq=False, slots=True)
class _Waiting:
    share: Share
    since: float
    outcome: asyncio.Future[None] = field(default_factory=asyncio.Future[None])

    def learn(self, outcome: Outcome) -> None:
        if self.outcome.done():
            return  # somebody has left
        if outcome is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(outcome)


class Rounds:
    """``work`` gets the shares of a round, in order of their partitions, and tells how each went.

    Belongs to one event loop.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._waiting: list[_Waiting] = []
        self._under_way = set[asyncio.Task[None]]()
        self._rested_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def join(self, share: Share) -> None:
        """Return once the share is done. Raises what the work tells of it, or raises itself."""
        mine = _Waiting(share, asyncio.get_running_loop().time())
        self._waiting.append(mine)
        self._look()
        await mine.outcome

    async def rest(self) -> None:
        """Return when the next round of those who trickle is due."""
        await asyncio.sleep(self._rested_at - asyncio.get_running_loop().time())

    def _look(self) -> None:
        """Begin a round, if it is time; if it will be later, look again then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and len(self._under_way) < UNDER_WAY_MAX:
            if sum(each.share.batch.count for each in self._waiting) < ENTRIES_MIN:
                self._look_later()
                return
            self._begin()

    def _look_later(self) -> None:
        if self._under_way:
            return  # whose end is looked at
        loop = asyncio.get_running_loop()
        due = max(self._waiting[0].since, self._rested_at) + GATHER_SECONDS
        if due <= loop.time():
            self._begin()
        else:
            self._timer = loop.call_at(due, self._look)

    def _begin(self) -> None:
        taken = self._take()
        task = asyncio.create_task(self._run(taken), name="round")
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _take(self) -> list[_Waiting]:
        taken: dict[int, _Waiting] = {}
        left: list[_Waiting] = []
        entries = 0
        for each in self._waiting:
            entries += each.share.batch.count
            fits = not taken or entries <= ENTRIES_MAX
            if fits and each.share.partition not in taken:
                taken[each.share.partition] = each
            else:
                left.append(each)
        self._waiting = left
        return [taken[partition] for partition in sorted(taken)]

    async def _run(self, taken: Sequence[_Waiting]) -> None:
        shares = [each.share for each in taken]
        outcomes: Sequence[Outcome]
        try:
            outcomes = await self._work(shares)
        except Exception as error:  # noqa: BLE001 - those who wait raise it
            outcomes = [error] * len(taken)
        few = sum(share.batch.count for share in shares) < FEW_ENTRIES
        rest = LONG_REST_SECONDS if few else REST_SECONDS
        self._rested_at = asyncio.get_running_loop().time() + rest
        for each, outcome in zip(taken, outcomes, strict=True):
            each.learn(outcome)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            self._look()
