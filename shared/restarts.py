"""Every connection asks which run of the server it has reached, before it carries anything else.

A server that was started again, or another one in its place after a failover, may have lost the end
of what it had acknowledged. Its run id tells: each partition's ``meta`` hash names the run that was
last seen, and when a connection finds another one there, it closes the partition (``verified`` is
taken away, and its ``life`` is over) before any command can follow. Scripts that write refuse in a
closed partition.

    connect ─▶ AUTH … ─▶ INFO: run id ─┬─ as in meta ─▶ commands
                                       └─ another ────▶ partition closed ─▶ commands

In a cluster each server is asked about the partitions it has, and a connection that was made before
its server got another slot is made again (``cluster_nodes``). A partition that was moved from one
server to another looks the same from here, and is closed too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.exceptions import AskError, MovedError

from shared.keys import PartitionKeys

_RUN_ID: Final = b"run_id:"


async def notice_restart(connection: Any) -> None:
    """redis-py's ``redis_connect_func``: the usual greeting, then the look at the run id."""
    await connection.on_connect()
    info: bytes = await _ask(connection, "INFO", "server")
    run = next(line[len(_RUN_ID) :] for line in info.splitlines() if line.startswith(_RUN_ID))
    partitions = int(await _ask(connection, "HGET", PartitionKeys(0).meta, "partitions") or 0)
    metas = [PartitionKeys(partition).meta for partition in range(partitions)]
    for meta in metas:
        if await _ask(connection, "HGET", meta, "run") != run:
            await _ask(connection, "HDEL", meta, "verified", "life")
            await _ask(connection, "HSET", meta, "run", run)


async def notice_failover(connection: Any, metas_of_server: Callable[[], Sequence[str]]) -> None:
    """The same for a server of a cluster, of which these are the partitions.

    All are asked in one round trip. Raises ResponseError (MOVED) when one of them is not its own
    any more: the connection is of no use then.
    """
    await connection.on_connect()
    info: bytes = await _ask(connection, "INFO", "server")
    run = next(line[len(_RUN_ID) :] for line in info.splitlines() if line.startswith(_RUN_ID))
    metas = metas_of_server()
    asking = connection.pack_commands([("HGET", meta, "run") for meta in metas])
    await connection.send_packed_command(asking)
    known = [await _known_run(connection) for _ in metas]
    for meta, before in zip(metas, known, strict=True):
        if before not in (None, run):
            await _ask(connection, "HDEL", meta, "verified", "life")
            await _ask(connection, "HSET", meta, "run", run)


async def _known_run(connection: Any) -> bytes | None:
    """None too while the partition is moved key by key: nobody writes in it meanwhile."""
    try:
        return await connection.read_response()
    except MovedError:
        raise
    except AskError:
        return None


async def _ask(connection: Any, *command: str | bytes) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()
