"""What tests of several scripts look at: every key there is, and what becomes of a lease."""

from __future__ import annotations

from typing import Any

from shared.event_log import EventLog, Lease, Renewed
from shared.redis_client import Redis
from shared.redis_scripts import run
from tests.support.log_server import LogServer


async def everything(server: LogServer) -> dict[bytes, Any]:
    """Every key and its value, times to live aside."""
    return {key: await _value(server.redis, key) for key in sorted(await server.redis.keys())}


async def _value(redis: Redis, key: bytes) -> Any:
    # A dump tells the fields of a hash in the order of its table, which moves after it has grown.
    return await (redis.hgetall(key) if await redis.type(key) == b"hash" else redis.dump(key))


async def renewed(server: LogServer, lease: Lease) -> Renewed:
    return EventLog.renewed(await run(server.redis, server.log.renew_call(lease, "w1")))
