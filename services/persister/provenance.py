"""Which run of Redis a batch was read from.

A batch that was read before Redis was killed may hold events that Redis does not know any more when
it is back, and whose numbers it gives out again. Only its origin tells it from a batch that was
read afterwards, so each read notes what its connection has learned when it was made (``restarts``):

    connection ─ run id ─▶ XREADGROUP, XAUTOCLAIM ─▶ reader's task: ``run_of_batch()`` ─▶ commit

The archive refuses a batch of another run than the one its partition was restored for (``store``).
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, cast

from shared.redis_client import Redis
from shared.restarts import notice_restart, run_reached_by

GROUP_READS: Final = ("XREADGROUP", "XAUTOCLAIM")

_run: Final = ContextVar[str]("run")


def note_runs(client: Redis) -> None:
    """Make group reads tell where they come from. Call it before the client has a connection."""
    noting = cast("Any", client)
    noting.connection_pool.connection_kwargs["redis_connect_func"] = notice_restart
    parse = noting.parse_response

    async def parse_response(connection: Any, command: str | bytes, **options: Any) -> Any:
        reply = await parse(connection, command, **options)
        if command in GROUP_READS:
            _run.set(run_reached_by(connection))
        return reply

    noting.parse_response = parse_response


def run_of_batch() -> str:
    """The run id of the server that has answered this task's last group read."""
    return _run.get()
