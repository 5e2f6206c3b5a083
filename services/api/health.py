"""Whether the gateway lives, and whether a request sent here now would be served."""

from __future__ import annotations

import asyncio

from services.api.feed import Feed
from services.api.key_fetching import FetchedKeys
from shared.archive import Archive
from shared.probes import says_yes, takes_writes
from shared.redis_client import Redis


class Health:
    def __init__(
        self, redis: Redis, archive: Archive, feed: Feed, keys: FetchedKeys | None
    ) -> None:
        self._redis, self._archive, self._feed, self._keys = redis, archive, feed, keys
        self.draining = False

    async def problems(self) -> list[str]:
        """What keeps the gateway from being ready; empty when it is."""
        if self.draining:
            return ["draining"]
        feed = not any(task.done() for task in self._feed.tasks)
        redis, postgres = await asyncio.gather(
            takes_writes(self._redis), says_yes(self._archive.ping)
        )
        keys = self._keys is None or self._keys.has_any
        states = {"feed": feed, "redis": redis, "postgres": postgres, "keys": keys}
        return [name for name, is_well in states.items() if not is_well]
