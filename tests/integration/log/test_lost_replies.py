"""A bad network between a service and Redis: the client library sends again, and once is enough."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from urllib.parse import urlsplit

import pytest

from shared.errors import LogUnavailable
from shared.event_log import Append, Appended
from shared.events import ThreadCreated, ThreadUpdated
from shared.ids import new_thread_id
from shared.redis_client import Patience, connect
from tests.support.log_server import AT, LogServer, done, token
from tests.support.proxy import Fault, Proxy

SCRIPT = b"EVALSHA"
IMPATIENT = Patience(1, 0.2, 0.2, 5.0)
SUCCESS = ("OK", "DUPLICATE")
Write = Callable[[LogServer, LogServer], Awaitable[list[str]]]


@pytest.fixture
async def proxy(redis_url: str) -> AsyncGenerator[Proxy]:
    port = urlsplit(redis_url).port
    assert port is not None
    async with Proxy("127.0.0.1", port) as proxy:
        yield proxy


@pytest.fixture
async def far(server: LogServer, proxy: Proxy, redis_url: str) -> AsyncGenerator[LogServer]:
    """The same log by way of the proxy, over a connection that is open."""
    client = connect(proxy.url(redis_url), connections_max=4)
    await client.ping()
    yield LogServer(client)
    await client.aclose()


async def create(far: LogServer, near: LogServer) -> list[str]:
    return await near.history(await far.thread())


async def accept(far: LogServer, near: LogServer) -> list[str]:
    thread = new_thread_id()
    created = ThreadCreated(thread_id=thread, at=AT, owner="alice")
    await far.post(far.command(thread), create=created, on_busy="reject")
    return await near.history(thread)


async def change(far: LogServer, near: LogServer) -> list[str]:
    thread = await near.thread()
    event = ThreadUpdated(thread_id=thread, at=AT, title="x")
    await far.threads.change_thread("alice", event)
    return await near.history(thread)


async def cancel(far: LogServer, near: LogServer) -> list[str]:
    thread = await near.thread()
    command = await near.posted(thread)
    assert await far.log.request_cancel(command.job_id, thread) == "cancelled"
    return await near.history(thread)


async def begin(far: LogServer, near: LogServer) -> list[str]:
    thread = await near.thread()
    await near.posted(thread)
    delivery = await near.deliver()
    assert delivery is not None
    begun = await far.begin(delivery)
    assert (begun.outcome, begun.lease and begun.lease.attempt) == ("BEGUN", 1)
    return await near.history(thread)


async def append(far: LogServer, near: LogServer) -> list[str]:
    _, lease = await near.running()
    assert await far.append(lease, token(lease, 2), token(lease, 3)) in SUCCESS
    return await near.history(lease.thread_id)


async def finish(far: LogServer, near: LogServer) -> list[str]:
    _, lease = await near.running()
    second = await near.posted(lease.thread_id)
    assert await far.finish(lease, 2) in SUCCESS
    delivery = await near.deliver()
    assert delivery is not None
    assert delivery.command == second
    assert await near.deliver() is None
    return await near.history(lease.thread_id)


POSTED = ["thread.created", "message.posted"]
WRITES: dict[Write, list[str]] = {
    create: ["thread.created"],
    accept: POSTED,
    change: ["thread.created", "thread.updated"],
    cancel: [*POSTED, "done"],
    begin: [*POSTED, "started"],
    append: [*POSTED, "started", "token", "token"],
    finish: [*POSTED, "started", "message.posted", "done"],
}


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.CUT])
@pytest.mark.parametrize(
    ("write", "history"), WRITES.items(), ids=[write.__name__ for write in WRITES]
)
async def test_a_write_whose_reply_is_lost_happens_once(
    far: LogServer, server: LogServer, proxy: Proxy, write: Write, history: list[str], fault: Fault
) -> None:
    await far.history("thr_none")  # the connection is open: the next reply is the script's
    await write(server, server)  # the server knows the script: the next call goes by its hash
    proxy.on_reply(fault, to=SCRIPT)
    assert await write(far, server) == history
    assert proxy.faults_met == 1


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.CUT])
async def test_a_round_trip_of_many_appends_that_is_lost_happens_once(
    far: LogServer, server: LogServer, proxy: Proxy, fault: Fault
) -> None:
    leases = [(await server.running())[1] for _ in range(3)]
    assert await server.append(leases[0], token(leases[0], 2)) == "OK"
    appends = [Append(lease, [token(lease, 2), token(lease, 3)]) for lease in leases]
    proxy.on_reply(fault, to=SCRIPT)
    answers = await far.log.append_many(appends)
    assert proxy.faults_met == 1
    assert answers == [Appended("DUPLICATE", 3, cancel=False)] * 3
    for lease in leases:
        assert (await server.history(lease.thread_id)).count("token") == 2


async def test_scripts_the_server_has_forgotten_are_sent_again(server: LogServer) -> None:
    first, second = [(await server.running())[1] for _ in range(2)]
    await server.redis.script_flush()
    assert await server.append(first, token(first, 2)) == "OK"
    await server.redis.script_flush()
    last = done(first, 3)
    answers = await server.log.append_many(
        [Append(first, [last], "done"), Append(second, [token(second, 2)])]
    )
    assert answers == [Appended("OK", 3, cancel=False), Appended("OK", 2, cancel=False)]
    assert (await server.history(first.thread_id))[-1] == "done"
    assert (await server.history(second.thread_id))[-1] == "token"


async def test_replies_that_come_byte_by_byte_are_read(
    far: LogServer, server: LogServer, proxy: Proxy
) -> None:
    proxy.chunk_bytes, proxy.delay_seconds = 1, 0.005
    _, lease = await far.running()
    assert await far.append(lease, token(lease, 2)) == "OK"
    assert await far.history(lease.thread_id) == await server.history(lease.thread_id)


@pytest.mark.parametrize("trouble", ["black hole", "refused"])
async def test_a_redis_out_of_reach_is_log_unavailable_and_comes_back(
    server: LogServer, proxy: Proxy, redis_url: str, trouble: str
) -> None:
    thread = await server.thread()
    _, lease = await server.running()
    client = connect(proxy.url(redis_url), patience=IMPATIENT)
    far = LogServer(client)
    await client.ping()
    if trouble == "refused":
        proxy.refuses = True
        proxy.cut_all()
    else:
        proxy.black_hole()
    command, appends = far.command(thread), [Append(lease, [token(lease, 2)])]
    with pytest.raises(LogUnavailable):
        await far.post(command)
    with pytest.raises(LogUnavailable):
        await far.hot.thread(thread)
    with pytest.raises(LogUnavailable):
        await far.log.append_many(appends)
    proxy.heal()
    assert await far.post(command) == command.job_id
    assert await server.history(thread) == POSTED
    await client.aclose()


async def test_a_reply_that_never_comes_is_asked_for_again(
    server: LogServer, proxy: Proxy, redis_url: str
) -> None:
    _, lease = await server.running()
    await server.append(lease, token(lease, 2))
    client = connect(proxy.url(redis_url), patience=IMPATIENT)
    await client.ping()
    proxy.on_reply(Fault.HOLE, to=SCRIPT)
    assert await LogServer(client).append(lease, token(lease, 3)) == "DUPLICATE"
    assert proxy.faults_met == 1
    await client.aclose()
