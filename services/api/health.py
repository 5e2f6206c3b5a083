"""Whether the gateway lives, and whether a request sent here now would be served."""

from __future__ import annotations

import asyncio
from typing import Final

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
        found = ["feed" for task in self._feed.tasks if task.done()]
        for name, probe in (("redis", self._probe_redis()), ("postgres", self._archive.ping())):
            try:
                async with asyncio.timeout(PROBE_SECONDS_MAX):
                    await probe
            except (HeadwaterError, TimeoutError):
                found.append(name)
        return found

    async def _probe_redis(self) -> None:
        with translate():
            await self._redis.ping()
