"""Whether the gateway lives, and whether a request sent here now would be served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from services.api.feed import Feed
from shared.archive import Archive
from shared.errors import HeadwaterError
from shared.redis_client import Redis, translate

PROBE_SECONDS_MAX: Final = 2.0


class Health:
    def __init__(self, redis: Redis, archive: Archive, feed: Feed) -> None:
        self._redis, self._archive, self._feed = redis, archive, feed
        self.draining = False

    async def problems(self) -> list[str]:
        """What keeps the gateway from being ready; empty when it is."""
        if self.draining:
            return ["draining"]
        feed = not any(task.done() for task in self._feed.tasks)
        redis, postgres = await asyncio.gather(
            self._answers(self._probe_redis), self._answers(self._archive.ping)
        )
        states = {"feed": feed, "redis": redis, "postgres": postgres}
        return [name for name, is_well in states.items() if not is_well]

    @staticmethod
    async def _answers(probe: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS_MAX):
                await probe()
        except (HeadwaterError, TimeoutError):
            return False
        return True

    async def _probe_redis(self) -> None:
        with translate():
            await cast("Any", self._redis).ping()
