"""The live feed: what a client sees of a thread, from any position on, without hole or duplicate.

    Redis channel ──▶ Channels ───────▶ _heard ──▶ Follower A: buffer ──▶ SSE, WebSocket
     (one publish      (one connection    │   └──▶ Follower B: buffer ──▶ …
      per append)       per process)      │
    thread stream ◀── read after cursor ──┴─────── a follower that is *behind*
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
    Slow client            Its buffer is dropped at BUFFER_BYTES_MAX; it reads once it is ready.
    Redis, Postgres away   Followers wait and try again; the stream stays open.
    Redis lost its tail    A follower never goes on behind a record that is gone: it ends.
    Client gone            Its request is cancelled; the last follower of a thread unsubscribes it.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, suppress
from typing import Final

from services.api.follower import Follower, Wanted
from shared.cancellation import end_tasks
from shared.cluster_channels import channels_of
from shared.codec import records_from_publish
from shared.errors import LogUnavailable
from shared.hot_state import HotState
from shared.observability import get_logger
from shared.redis_client import Redis
from shared.signals import decode_signal, is_signal
from shared.thread_stream import ThreadStream

SWEEP_SECONDS: Final = 1.0
SWEEP_THREADS_MAX: Final = 500  # looked at per sweep, in turn
SUBSCRIBE_SECONDS_MAX: Final = 1.0  # a signal may be missed by who does not wait
PING_SECONDS: Final = 15.0  # the longest silence of a stream
STOP_SECONDS_MAX: Final = 2.0

log = get_logger()


class _Watched:
    """A thread with followers here."""

    __slots__ = ("confirmed", "followers", "heard", "thread_id")

    def __init__(self, thread_id: str) -> None:
        self.thread_id = thread_id
        self.followers: set[Follower] = set()
        self.confirmed = asyncio.Event()  # subscribed to, at least once
        self.heard = False  # since the last sweep

    def place(self) -> int | None:
        """How far the follower has come who knows least, of those who believe to know all."""
        return min((f.cursor for f in self.followers if f.is_level), default=None)

    def confirm(self) -> None:
        self.confirmed.set()
        for follower in self.followers:
            follower.confirm()

    def fall_behind(self) -> None:
        for follower in self.followers:
            follower.fall_behind()


class Feed:
    """One per process. ``start`` it in the loop whose requests will follow threads."""

    def __init__(self, redis: Redis, hot: HotState, history: ThreadStream) -> None:
        self._hot, self._history = hot, history
        self._watched: dict[bytes, _Watched] = {}  # by channel
        self._channels = channels_of(redis, confirmed=self._confirmed, heard=self._heard)
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False

    @property
    def follower_count(self) -> int:
        return sum(len(watched.followers) for watched in self._watched.values())

    @property
    def behind_count(self) -> int:
        """How many have to read before they are level with their thread."""
        return sum(not follower.is_level for follower in self._followers())

    @property
    def thread_count(self) -> int:
        return len(self._watched)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return self._tasks

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._channels.listen(), name="feed.listen"),
            asyncio.create_task(self._sweep_for_ever(), name="feed.sweep"),
            asyncio.create_task(self._ping_for_ever(), name="feed.ping"),
        ]

    async def stop(self) -> None:
        await end_tasks(self._tasks, seconds_max=STOP_SECONDS_MAX)

    def drain(self) -> None:
        """Make every follower end, now and from here on: ``Follower.ended`` tells."""
        self._draining = True
        for follower in self._followers():
            follower.end()

    def follow(
        self,
        thread_id: str,
        *,
        after: int,
        wanted: Wanted | None = None,
        hears: bool = False,
    ) -> AbstractContextManager[Follower]:
        """Follow a thread live from a position on; of its events, only those ``wanted``.

        Signals are for who ``hears``.
        """
        follower = Follower(self._history, thread_id, after=after, wanted=wanted, hears=hears)
        return _Following(self, follower)

    def listen(self, thread_id: str) -> AbstractContextManager[Follower]:
        """Follow a thread from an event on that is yet to be written: ``Follower.begin`` tells.

        Who is subscribed by then reads nothing.
        """
        return _Following(self, Follower(self._history, thread_id, after=None))

    def join(self, follower: Follower) -> None:
        channel = self._channel(follower.thread_id)
        watched = self._watched.get(channel)
        if watched is None:
            watched = self._watched[channel] = _Watched(follower.thread_id)
            self._channels.want(channel)
        elif watched.confirmed.is_set():
            follower.confirm()
        watched.followers.add(follower)
        if self._draining:
            follower.end()

    def leave(self, follower: Follower) -> None:
        channel = self._channel(follower.thread_id)
        followers = self._watched[channel].followers
        followers.discard(follower)
        if not followers:
            del self._watched[channel]
            self._channels.drop(channel)

    async def subscribed(self, thread_id: str) -> None:
        """Until signals of a thread that is followed are heard, or for SUBSCRIBE_SECONDS_MAX."""
        watched = self._watched.get(self._channel(thread_id))
        if watched is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(SUBSCRIBE_SECONDS_MAX):
                    await watched.confirmed.wait()

    def _channel(self, thread_id: str) -> bytes:
        return self._hot.keys(thread_id).thread(thread_id).encode()

    def _followers(self) -> list[Follower]:
        return [f for watched in self._watched.values() for f in watched.followers]

    # ── listening ──────────────────────────────────────────────────────────────────────────────

    def _confirmed(self, channel: bytes) -> None:
        """A subscription begins here: what was published before was not heard."""
        if watched := self._watched.get(channel):
            watched.confirm()

    def _heard(self, channel: bytes, payload: bytes) -> None:
        watched = self._watched.get(channel)
        if watched is None:
            return
        if is_signal(payload):
            for follower in watched.followers:
                follower.signal(decode_signal(payload))
            return
        try:
            records = records_from_publish(payload)
        except ValueError:
            log.error("a publish that is none of ours", channel=channel.decode())
            watched.fall_behind()
            return
        watched.heard = True
        for follower in watched.followers:
            follower.offer(records, len(payload))

    # ── sweeping and pinging ───────────────────────────────────────────────────────────────────

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            with suppress(LogUnavailable):
                await self._sweep()

    async def _sweep(self) -> None:
        """Look for events behind what the followers of silent threads know."""
        places = self._silent()
        if not places:
            return
        tops = {watched.thread_id: place for watched, place in places.items()}
        found = await self._hot.records_of(tops, count=1)
        for watched in places:
            for record in found[watched.thread_id]:
                for follower in watched.followers:
                    if follower.cursor < record.position:
                        follower.fall_behind()

    def _silent(self) -> dict[_Watched, int]:
        """Threads that have not been heard since the last look, and the places to look behind."""
        places: dict[_Watched, int] = {}
        for channel, watched in list(self._watched.items()):
            if len(places) == SWEEP_THREADS_MAX:
                break
            self._watched[channel] = self._watched.pop(channel)  # to the end of the turn
            place = None if watched.heard else watched.place()
            watched.heard = False
            if place is not None:
                places[watched] = place
        return places

    async def _ping_for_ever(self) -> None:
        """A stream is pinged once it was idle for a whole tick, so twice a tick is its silence."""
        while True:
            await asyncio.sleep(PING_SECONDS / 2)
            for follower in self._followers():
                follower.ping()


class _Following:
    """A follower among those of a feed, for the length of a block."""

    __slots__ = ("_feed", "_follower")

    def __init__(self, feed: Feed, follower: Follower) -> None:
        self._feed, self._follower = feed, follower

    def __enter__(self) -> Follower:
        self._feed.join(self._follower)
        return self._follower

    def __exit__(self, *_: object) -> None:
        self._feed.leave(self._follower)
