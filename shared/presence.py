"""Who is in a thread: a lease for each device that has a socket open there, on any gateway.

A user comes with their first device and goes with the last one; who goes is still taken for there
for a moment, so that a page that is loaded again, or sent to another gateway, tells nobody. Nothing
of it is an event: the log does not know who listened.

Failures
    Gateway killed      Its leases run out; the next call of any gateway tells who is gone.
    Redis lost them     They come back with the next renewal, and are told again.
    Redis away          LogUnavailable; what that means is the caller's to decide.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from shared.ids import partition_of_thread
from shared.keys import PRESENCE_SECONDS, PartitionKeys
from shared.redis_client import Redis, translate
from shared.redis_scripts import Argument, Call, Script, run, run_many
from shared.signals import Signal, encode_signal

LEAVING_SECONDS: Final = 2.0  # in which who comes back has not been away


class Member(NamedTuple):
    """A device in a thread; ``socket_id`` tells two windows of one apart."""

    user: str
    session_id: str
    socket_id: str

    def encode(self) -> str:
        return json.dumps(self, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Attendance:
    """What one gateway knows of a thread: who is here, and who has gone from here."""

    thread_id: str
    here: Sequence[Member] = ()
    gone: Sequence[Member] = ()


class Presence:
    """Stateless: any number may work on the same Redis. Every method raises LogUnavailable."""

    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis, self._partitions = redis, partitions
        self._keep = Script("keep_presence")

    async def keep(self, attendance: Attendance) -> list[Member]:
        """Renew and give up leases; everybody who is in the thread now."""
        return _members(await run(self._redis, self._call(attendance)))

    async def keep_many(self, attendances: Sequence[Attendance]) -> None:
        """The same for several threads, in one round trip."""
        for reply in await run_many(self._redis, [self._call(each) for each in attendances]):
            if isinstance(reply, Exception):
                raise reply

    async def of(self, thread_id: str) -> list[Member]:
        """Everybody who is in the thread now."""
        return await self.keep(Attendance(thread_id))

    async def tell(self, thread_id: str, signal: Signal) -> None:
        """Signal everybody who is in the thread."""
        channel = self._keys(thread_id).thread(thread_id)
        with translate():
            await cast("Any", self._redis).execute_command(
                "SPUBLISH", channel, encode_signal(signal)
            )

    def _call(self, attendance: Attendance) -> Call:
        keys, thread = self._keys(attendance.thread_id), attendance.thread_id
        args: list[Argument] = [round(PRESENCE_SECONDS * 1000), round(LEAVING_SECONDS * 1000)]
        args += [len(attendance.here)]
        args += [member.encode() for member in (*attendance.here, *attendance.gone)]
        return Call(self._keep, [keys.present(thread), keys.thread(thread)], args)

    def _keys(self, thread_id: str) -> PartitionKeys:
        return PartitionKeys(partition_of_thread(thread_id, self._partitions))


def _members(reply: Sequence[bytes]) -> list[Member]:
    return [Member(*json.loads(member)) for member in reply]
