"""Every connection asks which run of the server it has reached, before it carries anything else.

A server that was started again, or another one in its place after a failover, may have lost the end
of what it had acknowledged. Its run id tells: each partition's ``meta`` hash names the run that was
last seen, and when a connection finds another one there, it closes the partition (``verified`` is
taken away, and its ``life`` is over) before any command can follow. Scripts that write refuse in a
closed partition.

    connect ─▶ AUTH … ─▶ INFO: run id ─┬─ as in meta ─▶ commands
                                       └─ another ────▶ partition closed ─▶ commands
"""

from __future__ import annotations

from typing import Any, Final

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


async def _ask(connection: Any, *command: str | bytes) -> Any:
    await connection.send_command(*command)
    return await connection.read_response()
