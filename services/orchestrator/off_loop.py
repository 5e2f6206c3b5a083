"""Runs what blocks in a thread of its own, so that the event loop goes on.

A thread cannot be ended. One whose caller has left is forgotten: it holds one of THREADS_MAX places
until it returns, and does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, TypeVar

THREADS_MAX: Final = 16  # of the process; who comes later waits for a place

Result = TypeVar("Result")


class OffLoop:
    """One per process, for use in one event loop."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(THREADS_MAX)

    async def run(self, function: Callable[[], Result]) -> Result:
        """What the function returns, or raises."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Result] = loop.create_future()

        def settle(result: Result | None, error: BaseException | None) -> None:
            self._places.release()
            if outcome.done():
                return  # its caller has left
            if isinstance(error, StopIteration):  # which no future takes: its caller would wait
                error = RuntimeError("what ran raised StopIteration")
            if error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(result)  # pyright: ignore[reportArgumentType] -- no error: it is one

        def work() -> None:
            try:
                result, error = function(), None
            except BaseException as raised:  # noqa: BLE001 -- it is the caller's
                result, error = None, raised
            try:
                loop.call_soon_threadsafe(settle, result, error)
            except RuntimeError:
                return  # the loop has ended, and whoever waited with it

        threading.Thread(target=work, name="off-loop", daemon=True).start()
        return await outcome
