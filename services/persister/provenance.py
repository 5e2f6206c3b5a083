"""Which life of Redis a batch was read in.

A batch that was read before Redis lost something may hold events that Redis does not know any more,
and whose numbers it gives out again. Only its origin tells it from a batch that was read afterwards
(``continuity``), so each read brings along the partition's life as it was just before:

    HGET life, XREADGROUP ─▶ one round trip ─▶ reader's task: ``life_of_batch()`` ─▶ commit

Entries come as the server tells them: making a dict of each costs as much as all else that is done
with a token here, and nobody needs it.

The archive refuses a batch of another life than the one its partition was restored for (``store``).

Failures
    Lost between the two commands   The life is the earlier one, and the batch is refused: it comes
                                    again, from whoever finds it pending.
    Read while the partition is closed, before it is restored: no life, and the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Final, cast

from shared.keys import PartitionKeys
from shared.redis_client import ClusterRedis, Redis
from shared.restarts import notice_restart

NO_LIFE: Final = ""
CLAIMED_MAX: Final = 1000

_life: Final = ContextVar[str]("life", default=NO_LIFE)


def note_lives(client: Redis, partitions: int) -> None:
    """Make group reads of logs tell where they come from. Call it before the client is used.

    What lies idle is claimed CLAIMED_MAX entries at a time. Redis looks at ten times as many, and
    FastStream, which would claim one, asks again at once until all that is pending was looked at.
    """
    noting = cast("Any", client)
    noting.connection_pool.connection_kwargs["redis_connect_func"] = notice_restart
    noting.set_response_callback("XREADGROUP", _streams)
    noting.set_response_callback("XAUTOCLAIM", _as_it_is)
    unnoted = SimpleNamespace(xreadgroup=noting.xreadgroup, xautoclaim=noting.xautoclaim)
    metas = {keys.log: keys.meta for keys in map(PartitionKeys, range(partitions))}

    async def noted(log: str, read: Callable[[Any], Any]) -> Any:
        if isinstance(client, ClusterRedis):  # while a slot moves, two servers answer a pipeline
            life = await noting.hget(metas[log], "life")
            _life.set(life.decode() if life else NO_LIFE)
            return await read(unnoted)
        pipeline = noting.pipeline(transaction=False)
        pipeline.hget(metas[log], "life")
        read(pipeline)
        life, reply = await pipeline.execute(raise_on_error=False)
        for answer in (life, reply):
            if isinstance(answer, Exception):
                raise answer
        _life.set(life.decode() if life else NO_LIFE)
        return reply

    async def xreadgroup(*, streams: dict[str, str], **call: Any) -> Any:
        (log,) = streams
        return await noted(log, lambda pipeline: pipeline.xreadgroup(streams=streams, **call))

    async def xautoclaim(*, name: str, **call: Any) -> Any:
        many = call | {"count": CLAIMED_MAX}
        return await noted(name, lambda pipeline: pipeline.xautoclaim(name=name, **many))

    noting.xreadgroup, noting.xautoclaim = xreadgroup, xautoclaim


def _streams(reply: Any, **_: Any) -> list[Any]:
    """Streams with their entries, as pairs, whichever protocol is spoken."""
    return list(reply.items() if hasattr(reply, "items") else reply or ())


def _as_it_is(reply: Any, **_: Any) -> Any:
    return reply


def life_of_batch() -> str:
    """The life in which this task's last group read was made."""
    return _life.get()
