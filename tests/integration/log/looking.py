"""What tests of several scripts look at: every key there is, and what becomes of a lease."""

from __future__ import annotations

from shared.event_log import EventLog, Lease, Renewed
from shared.redis_scripts import run
from tests.support.log_server import LogServer


async def everything(server: LogServer) -> dict[bytes, bytes]:
    """Every key and its value, times to live aside."""
    keys = sorted(await server.redis.keys())
    return {key: await server.redis.dump(key) for key in keys}


async def renewed(server: LogServer, lease: Lease) -> Renewed:
    return EventLog.renewed(await run(server.redis, server.log.renew_call(lease, "w1")))
