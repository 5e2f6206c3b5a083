"""Tasks that are to end do end, also those that do not hear it the first time."""

from __future__ import annotations

import asyncio

from shared.cancellation import end_tasks


class Deaf:
    """Works in a loop and overhears some cancellations, as ``asyncio.wait_for`` lets it."""

    def __init__(self, times: int) -> None:
        self._times = times

    async def work(self) -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self._times -= 1
                if self._times < 0:
                    raise


async def test_a_cancellation_that_is_swallowed_is_repeated() -> None:
    tasks = [asyncio.create_task(Deaf(times).work()) for times in (0, 1, 3)]
    await asyncio.sleep(0)
    await end_tasks(tasks, seconds_max=2)
    assert [task.cancelled() for task in tasks] == [True, True, True]


async def test_a_task_that_never_listens_is_not_waited_for_longer() -> None:
    task = asyncio.create_task(Deaf(7).work())
    await asyncio.sleep(0)
    await end_tasks([task], seconds_max=0.2)
    assert not task.done()
    await end_tasks([task], seconds_max=2)


async def test_how_a_task_ends_does_not_matter() -> None:
    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("a defect")

    async def is_over() -> None:
        return

    tasks = [asyncio.create_task(fails()), asyncio.create_task(is_over())]
    await asyncio.sleep(0)
    await end_tasks(tasks, seconds_max=1)
    await end_tasks([], seconds_max=1)
    assert all(task.done() for task in tasks)
