"""Cancels tasks so that they end.

One ``task.cancel()`` is not enough: before Python 3.12 ``asyncio.wait_for``, which redis-py calls
for every command it sends, swallows a cancellation that comes in the turn of the loop in which its
own future is done. A task that works in a loop then goes on for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

AGAIN_SECONDS: Final = 0.05


async def end_tasks(tasks: Iterable[asyncio.Task[Any]], *, seconds_max: float) -> None:
    """Cancel tasks until they have ended, however they do, or time is up."""
    left = {task for task in tasks if not task.done()}
    for _ in range(max(1, round(seconds_max / AGAIN_SECONDS))):
        if not left:
            return
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN_SECONDS)
        for task in done:
            if not task.cancelled():
                task.exception()  # seen: it came too late to matter
