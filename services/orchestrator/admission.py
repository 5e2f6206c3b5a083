"""Never claim more than can be run: a read takes a slot first, and only an entry keeps it.

A consumer group hands an entry to whoever reads; an entry that then waits for a free slot is one
that no other worker may run. So the broker's client is made to take a slot before each XREADGROUP
or XAUTOCLAIM, and to give it back when the reply brings nothing:

    reader ──▶ slot ──▶ read ─┬─ nothing ─▶ slot given back
       ▲                      └─ an entry ─▶ parsed, handed to a job ─▶ ``to_job`` … ``release``
       └──────────────────────────────────── not parsed: the reader keeps its slot and reads on

When few slots are free, as many readers wait at Redis as there are slots, in short turns.

Failures
    Read refused       The error is passed on, the slot is given back: whoever waits before the next
                       try (``shared.group_reads``) holds none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from shared.redis_client import Redis

SCARCE_BLOCK_MS: Final = 10  # how long a read holds a slot that others wait for

Read = Callable[..., Awaitable[Any]]


def reader_name(stream: str, *, reclaims: bool) -> str:
    """Each stream has one reader of new entries and one of idle ones; they read one by one."""
    return f"{'reclaim' if reclaims else 'read'} {stream}"


class Slots:
    """How many jobs this worker may take. A slot is held from the read to the job's end."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = asyncio.Semaphore(count)
        self._jobs = 0
        self._readers: set[str] = set()  # that have ever read
        self._holding: set[str] = set()  # readers that have a slot

    @property
    def held(self) -> int:
        return self._jobs + len(self._holding)

    def to_job(self, reader: str) -> None:
        """The reader's entry has become a job: its slot is the job's, which calls ``release``."""
        self._holding.remove(reader)
        self._jobs += 1

    def release(self) -> None:
        self._jobs -= 1
        self._free.release()

    def guard(self, client: Redis) -> None:
        """Make the client's group reads take a slot, which an entry in the reply keeps."""
        guarded = cast("Any", client)
        read, claim = guarded.xreadgroup, guarded.xautoclaim

        async def xreadgroup(**call: Any) -> Any:
            [stream] = call["streams"]
            return await self._read(reader_name(stream, reclaims=False), read, call, bool)

        async def xautoclaim(**call: Any) -> Any:
            reader = reader_name(call["name"], reclaims=True)
            return await self._read(reader, claim, call, lambda reply: bool(reply[1]))

        guarded.xreadgroup, guarded.xautoclaim = xreadgroup, xautoclaim

    async def _read(
        self, reader: str, read: Read, call: dict[str, Any], has_entry: Callable[[Any], bool]
    ) -> Any:
        self._readers.add(reader)
        if reader not in self._holding:
            await self._free.acquire()
            self._holding.add(reader)
        if "block" in call and self._jobs + len(self._readers) > self._count:
            call["block"] = min(call["block"], SCARCE_BLOCK_MS)
        kept = False
        try:
            reply = await read(**call)
            kept = has_entry(reply)
            return reply
        finally:
            if not kept:
                self._holding.remove(reader)
                self._free.release()
