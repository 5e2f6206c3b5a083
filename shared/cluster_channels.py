"""Shard channels of a Redis Cluster: a connection to each server that has one that is wanted.

    want ─▶ who has its slot? ─▶ link to that server: SSUBSCRIBE ─▶ confirmed, heard
              ▲                       │
              └── homeless ◀── link lost, or the server dismisses it: its slot has moved

Failures
    Server away, failed over   Its link ends; its channels are homeless until the cluster names who
                               has them now. That they are confirmed again tells their listener that
                               it may have missed something.
    Slot moved                 The old server ends the subscription (``sunsubscribe``), and the
                               channel alone moves. A subscription sent too late is refused (MOVED),
                               and the link is made anew.
    Nobody has the slot        Asked again every RECONNECT_SECONDS.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from redis.crc import key_slot

from shared.cancellation import end_tasks
from shared.channels import RECONNECT_SECONDS, Channels
from shared.joint_connection import Command
from shared.observability import get_logger
from shared.redis_client import ClusterRedis, Redis, RedisError

CHANNELS_PER_COMMAND_MAX: Final = 1000
STOP_SECONDS_MAX: Final = 1.0

log = get_logger()

Confirmed = Callable[[bytes], None]
Heard = Callable[[bytes, bytes], None]


class ClusterChannels:
    """Used as ``Channels`` is."""

    def __init__(self, redis: ClusterRedis, *, confirmed: Confirmed, heard: Heard) -> None:
        self._redis = redis
        self._confirmed, self._heard = confirmed, heard
        self._homes: dict[bytes, _Link] = {}
        self._homeless: set[bytes] = set()
        self._links: dict[Redis, _Link] = {}
        self._change = asyncio.Event()

    def want(self, channel: bytes) -> None:
        self._homeless.add(channel)
        self._change.set()

    def drop(self, channel: bytes) -> None:
        self._homeless.discard(channel)
        if link := self._homes.pop(channel, None):
            link.drop(channel)

    async def listen(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._change.wait()
                self._change.clear()
                try:
                    await self._house()
                except RedisError as error:
                    log.warning("channels without a server", reason=str(error))
                    await asyncio.sleep(RECONNECT_SECONDS)
                    self._change.set()
        finally:
            tasks = [link.task for link in self._links.values()]
            await end_tasks(tasks, seconds_max=STOP_SECONDS_MAX)

    async def _house(self) -> None:
        """Bring what is homeless to who has its slot. Raises RedisError when some stay so."""
        if any(link.task.done() for link in self._links.values()):
            await asyncio.sleep(RECONNECT_SECONDS)
            self._evict()
        failure: RedisError | None = None
        for channel in list(self._homeless):
            try:
                server = await self._redis.server_of(channel)
            except RedisError as error:
                failure = error
                continue
            if channel not in self._homeless:  # dropped meanwhile
                continue
            link = self._links.get(server)
            if link is None:
                link = self._links[server] = self._link(server)
            self._homeless.discard(channel)
            self._homes[channel] = link
            link.want(channel)
        if failure is not None:
            raise failure

    def _link(self, server: Redis) -> _Link:
        link = _Link(
            server,
            confirmed=self._confirmed,
            heard=self._heard,
            dismissed=self._dismissed,
        )
        link.task.add_done_callback(lambda _: self._change.set())
        return link

    def _evict(self) -> None:
        """Make homeless whom a link that has ended has held."""
        ended = {server: link for server, link in self._links.items() if link.task.done()}
        for server, link in ended.items():
            log.warning("connection of channels lost", reason=str(link.task.exception()))
            del self._links[server]
        gone = set(ended.values())
        lost = {channel for channel, link in self._homes.items() if link in gone}
        for channel in lost:
            del self._homes[channel]
        self._homeless |= lost
        self._redis.doubt()

    def _dismissed(self, link: _Link, channel: bytes) -> None:
        if self._homes.get(channel) is link:
            del self._homes[channel]
            self._redis.doubt()
            self.want(channel)


class _Link(Channels):
    """The connection to one server."""

    def __init__(
        self,
        server: Redis,
        *,
        confirmed: Confirmed,
        heard: Heard,
        dismissed: Callable[[_Link, bytes], None],
    ) -> None:
        super().__init__(server, confirmed=confirmed, heard=heard)
        self._dismissed = dismissed
        self.task = asyncio.create_task(self.hold_connection(), name="channels.link")

    def commands(self, verb: str, channels: set[bytes]) -> list[Command]:
        """One command may name channels of one slot only."""
        slots: dict[int, list[bytes]] = defaultdict(list)
        for channel in channels:
            slots[key_slot(channel)].append(channel)
        most = CHANNELS_PER_COMMAND_MAX
        return [
            (verb, *of_slot[at : at + most])
            for of_slot in slots.values()
            for at in range(0, len(of_slot), most)
        ]

    def dismissed(self, channel: bytes) -> None:
        # To unsubscribe as well would be an error where the slot is gone, and cost all the others.
        self._wanted.discard(channel)
        self._dismissed(self, channel)


def channels_of(redis: Redis, *, confirmed: Confirmed, heard: Heard) -> Channels | ClusterChannels:
    """What listens to the channels of this Redis."""
    if isinstance(redis, ClusterRedis):
        return ClusterChannels(redis, confirmed=confirmed, heard=heard)
    return Channels(redis, confirmed=confirmed, heard=heard)
