"""Never claim more than can be run: a read takes a slot first, and only an entry keeps it.

A consumer group hands an entry to whoever reads; an entry that then waits for a free slot is one
that no other worker may run. So the broker's client is made to take a slot before each XREADGROUP
or XAUTOCLAIM and to give it back when the reply brings nothing. When few slots are free, as many
readers wait at Redis as there are slots, in short turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from shared.redis_client import Redis

SCARCE_BLOCK_MS: Final = 50  # a read holds its slot this long while others wait for one


class Slots:
    """How many jobs this worker may still take. A slot is held from the read to the job's end."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = asyncio.Semaphore(count)
        self._open = asyncio.Event()
        self._open.set()
        self._held = self._waiting = 0

    @property
    def held(self) -> int:
        return self._held

    async def acquire(self) -> None:
        self._waiting += 1
        try:
            while True:
                await self._open.wait()
                await self._free.acquire()
                if self._open.is_set():
                    break
                self._free.release()
        finally:
            self._waiting -= 1
        self._held += 1

    def release(self) -> None:
        self._held -= 1
        self._free.release()

    def close(self) -> None:
        """Give out no more slots: reads stop, jobs go on."""
        self._open.clear()

    def guard(self, client: Redis) -> None:
        """Make the client's group reads take a slot, which an entry in the reply keeps.

        Whoever handles the entry must release it. Reads must ask for one entry at a time.
        """
        client.xreadgroup = self._guarded(client.xreadgroup, has_entry=bool)
        client.xautoclaim = self._guarded(client.xautoclaim, has_entry=lambda reply: bool(reply[1]))

    def _guarded(
        self, read: Callable[..., Awaitable[Any]], *, has_entry: Callable[[Any], bool]
    ) -> Callable[..., Any]:
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            await self.acquire()
            if self._waiting and "block" in kwargs:
                kwargs["block"] = min(kwargs["block"], SCARCE_BLOCK_MS)
            kept = False
            try:
                reply = await read(*args, **kwargs)
                kept = has_entry(reply)
                return reply
            finally:
                if not kept:
                    self.release()

        return guarded
