"""The server is killed and started again: everything it has answered for is still there."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from shared.event_log import EventLog
from shared.keys import PartitionKeys
from shared.redis_scripts import run
from tests.support.event_history import check_thread_history
from tests.support.log_server import LogServer, connect_repeating, done, token
from tests.support.log_view import Subjects, observed
from tests.support.servers import Server


@pytest.fixture
async def server(redis_url: str) -> AsyncGenerator[LogServer]:
    client = connect_repeating(redis_url)
    server = LogServer(client)
    await server.prepare()
    yield server
    await client.aclose()


async def test_a_killed_server_comes_back_with_all_it_has_answered_for(
    server: LogServer, valkey_server: Server
) -> None:
    delivery, lease = await server.running()
    waiting = await server.posted(lease.thread_id)
    await server.append(lease, token(lease, 2), token(lease, 3))
    ids = await server.read_log(0, "p1", 3)
    await server.acknowledge(0, ids[:2])
    jobs = {lease.job_id: 0, waiting.job_id: 0}
    subjects = Subjects({lease.thread_id: 0}, jobs, ("alice",), 1)
    before = await observed(server.redis, subjects)
    with valkey_server.away():
        pass
    await server.prepare()
    assert await observed(server.redis, subjects) == before
    assert await server.append(lease, token(lease, 3)) == "DUPLICATE"
    reply = await run(server.redis, server.log.renew_call(lease, delivery.consumer))
    assert EventLog.renewed(reply).kept
    assert await server.append(lease, done(lease, 4, "done", "xx"), final="done") == "OK"
    delivery = await server.deliver()
    assert delivery is not None
    assert delivery.command == waiting
    check_thread_history(await server.records(lease.thread_id))


async def test_a_server_that_lost_its_tail_is_told_again(
    server: LogServer, valkey_server: Server
) -> None:
    """What a power cut or a promoted replica does: the worker goes on from what Redis knows."""
    _, lease = await server.running()
    await server.append(lease, token(lease, 2))
    keys = PartitionKeys(0)
    names = [keys.thread(lease.thread_id), keys.thread_events(lease.thread_id), keys.log]
    names.append(keys.job(lease.job_id))
    earlier = [(name, await server.redis.dump(name)) for name in names]
    await server.append(lease, token(lease, 3), token(lease, 4))
    for name, value in earlier:
        await server.redis.restore(name, 0, value, replace=True)
    rest = [token(lease, seq) for seq in (2, 3, 4)]
    assert await server.append(lease, token(lease, 5)) == "GAP"
    assert await server.append(lease, *rest, token(lease, 5)) == "OK"
    assert await server.finish(lease, 6) == "OK"
    records = await server.records(lease.thread_id)
    assert [record.seq for record in records[2:]] == [1, 2, 3, 4, 5, 6]
