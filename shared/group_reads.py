"""Group reads that heal by themselves: what Redis refuses is a read that brings nothing.

    reader ── read ──▶ Redis ─┬─ entries, or none ──────────────────────────▶ passed on
       ▲                      ├─ NOGROUP, UNBLOCKED ─▶ groups made again ─┐
       │                      └─ refused otherwise ───────────────────────┴─▶ pause, none
       └───────────────────────────── reads on ◀──────────────────────────────────┘

FastStream stops a subscriber for good when its group is gone, and repeats any other read that Redis
answers with an error in a hot loop. So its client is made to answer such reads calmly; whether to
read on stays the reader's decision, which is why nothing is repeated here.

Failures
    Stream or group gone   After FLUSHALL or DEL everybody who reads makes all of them again, at id
                           0: what was added before they were back is delivered too. Redis 7.0 tells
                           a blocked reader UNBLOCKED, Valkey NOGROUP.
    Groups not made        Redis is full, or gone once more: the next read finds them missing again,
                           after the longer pause.
    Refused for long       (No replicas, disk full, a replica.) One try every REFUSED_SECONDS.
    Redis away             Not met here: the connection tries again by itself (``redis_client``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, cast

from shared.cancellation import end_tasks
from shared.errors import HeadwaterError, LogUnavailable
from shared.observability import get_logger
from shared.redis_client import Redis, ResponseError, translate

REFUSED_SECONDS: Final = 0.5
STOP_SECONDS_MAX: Final = 1.0
MADE_AGAIN_SECONDS: Final = 0.05  # a stream that somebody deletes all the time must not be a loop
_GROUP_GONE: Final = ("NOGROUP", "UNBLOCKED")

log = get_logger()


class Stoppable(Protocol):
    async def stop(self) -> None: ...


class Broker(Stoppable, Protocol):
    async def start(self) -> None: ...


class Subscriber(Stoppable, Protocol):
    """One of its readers, and the tasks it reads in."""

    tasks: list[asyncio.Task[Any]]


MakeGroups = Callable[[], Awaitable[None]]


def heal_group_reads(client: Redis, make_groups: MakeGroups) -> None:
    """Make the client's XREADGROUP and XAUTOCLAIM answer a refusal with nothing, after a pause.

    A group that the client makes itself begins at id 0, too: a subscriber of FastStream's that
    starts while its group is gone would make it behind all that was never delivered.

    ``make_groups`` is called when a group is gone, by several readers at once: it must be harmless
    when the groups are there. It may raise HeadwaterError.
    """
    healed = cast("Any", client)
    read, claim, greet = healed.xreadgroup, healed.xautoclaim, healed.ping
    make = healed.xgroup_create

    async def xreadgroup(**call: Any) -> Any:
        return await _calmly(read(**call), make_groups, nothing=[])

    async def xautoclaim(**call: Any) -> Any:
        return await _calmly(claim(**call), make_groups, nothing=[b"0-0", [], []])

    async def ping() -> bool:
        """A reader's first word. A server whose disk is full refuses that, too."""
        await _calmly(greet(), make_groups, nothing=None)
        return True

    async def xgroup_create(**call: Any) -> Any:
        return await make(**call | {"id": "0"})

    healed.xreadgroup, healed.xautoclaim, healed.ping = xreadgroup, xautoclaim, ping
    healed.xgroup_create = xgroup_create


async def start_reading(broker: Broker) -> None:
    """Start the broker's subscribers. Raises LogUnavailable, also when one is not started in time,
    for which FastStream has a bound of its own."""
    try:
        with translate():
            await broker.start()
    except TimeoutError as error:
        raise LogUnavailable("Redis is unavailable: no answer in time") from error


async def stop_reading(broker: Stoppable, subscribers: Sequence[Subscriber]) -> None:
    """Stop the subscribers, each after the message in hand, and then the broker.

    FastStream cancels its readers once and awaits none; one that missed it would read on.
    """
    readers = [task for subscriber in subscribers for task in subscriber.tasks]
    await asyncio.gather(*(subscriber.stop() for subscriber in subscribers))
    await end_tasks(readers, seconds_max=STOP_SECONDS_MAX)
    await broker.stop()


@contextmanager
def group_may_be_gone() -> Generator[None]:
    """Leave the block when it meets a group that is gone: its readers make it again."""
    try:
        yield
    except ResponseError as error:
        if not _is_gone(error):
            raise


async def _calmly(reading: Awaitable[Any], make_groups: MakeGroups, *, nothing: Any) -> Any:
    try:
        return await reading
    except ResponseError as error:
        made = _is_gone(error) and await _made_again(make_groups)
        log.warning("groups made again" if made else "read refused", reason=str(error))
    await asyncio.sleep(MADE_AGAIN_SECONDS if made else REFUSED_SECONDS)
    return nothing


async def _made_again(make_groups: MakeGroups) -> bool:
    try:
        await make_groups()
    except (HeadwaterError, ResponseError) as error:
        log.warning("groups not made again", reason=str(error))
        return False
    return True


def _is_gone(error: ResponseError) -> bool:
    return str(error).startswith(_GROUP_GONE)
