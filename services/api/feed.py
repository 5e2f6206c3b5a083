"""The live feed: what a client sees of a thread, from any position on, without hole or duplicate.

    Redis channel ──▶ one connection ──▶ _hear ──▶ Follower A: buffer ──▶ SSE, WebSocket
     (one publish       per process        │  └──▶ Follower B: buffer ──▶ …
      per append)                          │
    thread stream ◀── read after cursor ───┴────── a follower that is *behind*
    archive       ◀── what Redis has let go

A publish carries the events themselves, so a live client costs no read. The thread's stream stays
the truth. A follower takes from its buffer only what continues its cursor; whenever that cannot be
known (at the start, after a subscription was made again, on a jump in position, when its buffer ran
over) it is *behind*, and reads the stream from its cursor. So no order of publishes, losses and
reconnects can make a hole or a duplicate: at worst it makes a read.

Failures
    Publish lost           The next one jumps: read. If there is no next one, the sweep looks at
                           silent threads, SWEEP_THREADS_MAX of them a second.
    Connection lost        Made again; every confirmed subscription makes its followers read.
    Slow client            Its buffer is dropped at BUFFER_BYTES_MAX; it reads when it has caught up.
    Redis, Postgres away   Followers wait and try again; the stream stays open.
    Client gone            Its request is cancelled; the last follower of a thread unsubscribes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

from services.api.follower import Follower
from shared.archive import Archive
from shared.codec import records_from_publish
from shared.errors import LogUnavailable
from shared.hot_state import HotState
from shared.keys import PartitionKeys
from shared.observability import get_logger
from shared.redis_client import Redis, RedisError

SWEEP_SECONDS: Final = 1.0
SWEEP_THREADS_MAX: Final = 500  # looked at per sweep, in turn
PING_SECONDS: Final = 15.0
LISTEN_SECONDS: Final = 5.0
RECONNECT_SECONDS: Final = 0.25

log = get_logger()


class _Watched:
    """A thread with followers here."""

    __slots__ = ("followers", "heard", "top")

    def __init__(self) -> None:
        self.followers: set[Follower] = set()
        self.top = 0  # the highest position heard or read
        self.heard = False  # since the last sweep


class Feed:
    """One per process. ``start`` it in the loop whose requests will follow threads."""

    def __init__(self, redis: Redis, hot: HotState, archive: Archive) -> None:
        self._redis, self._hot, self._archive = redis, hot, archive
        self._watched: dict[str, _Watched] = {}  # by channel
        self._pubsub: Any = None
        self._subscriptions = asyncio.Queue[str](maxsize=0)
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False

    @property
    def follower_count(self) -> int:
        return sum(len(watched.followers) for watched in self._watched.values())

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._listen(), name="feed.listen"),
            asyncio.create_task(self._sweep_for_ever(), name="feed.sweep"),
            asyncio.create_task(self._ping_for_ever(), name="feed.ping"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drain(self) -> None:
        """Make every follower end, now and from here on: ``Follower.draining`` tells."""
        self._draining = True
        for follower in self._followers():
            follower.end()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return self._tasks

    @contextmanager
    def follow(self, thread_id: str, *, after: int, top: int) -> Iterator[Follower]:
        """Follow a thread live from a position on; ``top`` is its last position, as known now."""
        channel = self._hot.keys(thread_id).thread(thread_id)
        follower = Follower(self._hot, self._archive, thread_id, after=after, top=top)
        watched = self._watched.get(channel)
        if watched is None:
            watched = self._watched[channel] = _Watched()
            self._subscriptions.put_nowait(channel)
        watched.followers.add(follower)
        watched.top = max(watched.top, top)
        if self._draining:
            follower.end()
        try:
            yield follower
        finally:
            watched.followers.discard(follower)
            if not watched.followers and self._watched.get(channel) is watched:
                del self._watched[channel]
                self._subscriptions.put_nowait(channel)

    def replay(self, thread_id: str, *, after: int, top: int) -> Follower:
        """Read a thread whose end is known, without listening."""
        return Follower(self._hot, self._archive, thread_id, after=after, top=top)

    def _followers(self) -> list[Follower]:
        return [f for watched in self._watched.values() for f in watched.followers]

    # ── listening ──────────────────────────────────────────────────────────────────────────────

    async def _listen(self) -> None:
        """Hold the connection; on any loss make it again, with every subscription."""
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await self._hear_all(pubsub)
            except RedisError as error:
                log.warning("feed connection lost", reason=type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _hear_all(self, pubsub: Any) -> None:
        await pubsub.ssubscribe(PartitionKeys(0).feeds, *self._watched)
        subscribing = asyncio.create_task(self._keep_subscribed(pubsub))
        try:
            while not subscribing.done():
                message = await pubsub.get_message(timeout=LISTEN_SECONDS)
                if message is not None:
                    self._hear(cast("dict[str, Any]", message))
            subscribing.result()
        finally:
            subscribing.cancel()
            with suppress(asyncio.CancelledError, RedisError):
                await subscribing

    async def _keep_subscribed(self, pubsub: Any) -> None:
        """Bring the connection's subscriptions in line with the threads that have followers."""
        while True:
            channel = await self._subscriptions.get()
            if channel in self._watched:
                await pubsub.ssubscribe(channel)
            else:
                await pubsub.sunsubscribe(channel)

    def _hear(self, message: dict[str, Any]) -> None:
        watched = self._watched.get(message["channel"].decode())
        if watched is None:
            return
        if message["type"] == "ssubscribe":
            for follower in watched.followers:
                follower.fall_behind()
        elif message["type"] == "smessage":
            records = records_from_publish(message["data"])
            watched.heard = True
            watched.top = max(watched.top, records[-1].position)
            for follower in watched.followers:
                follower.offer(records)

    # ── sweeping and pinging ───────────────────────────────────────────────────────────────────

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            with suppress(LogUnavailable):
                await self._sweep()

    async def _sweep(self) -> None:
        """Look for events behind what silent threads have heard."""
        silent: dict[str, _Watched] = {}
        for channel, watched in list(self._watched.items()):
            if len(silent) == SWEEP_THREADS_MAX:
                break
            if not watched.heard and watched.followers:
                silent[next(iter(watched.followers)).thread_id] = watched
                self._watched[channel] = self._watched.pop(channel)  # to the end of the turn
            watched.heard = False
        if not silent:
            return
        tops = {thread_id: watched.top for thread_id, watched in silent.items()}
        found = await self._hot.records_of(tops, count=1)
        for thread_id, records in found.items():
            if records:
                watched = silent[thread_id]
                watched.top = max(watched.top, records[-1].position)
                for follower in watched.followers:
                    follower.fall_behind()

    async def _ping_for_ever(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            for follower in self._followers():
                follower.ping()
