"""A partition that may know less than the archive takes no writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from shared.continuity import NO_ID, Continuity
from shared.dead_letters import DeadLetters, LetterId
from shared.errors import LogUnavailable
from shared.event_log import Append, Lease
from shared.events import ThreadUpdated
from shared.keys import PartitionKeys
from shared.redis_client import connect
from tests.integration.log.looking import everything, renewed
from tests.support.log_server import (
    AT,
    Delivery,
    LogServer,
    connect_repeating,
    token,
)
from tests.support.servers import Server

KEYS = PartitionKeys(0)
LETTER = {"kind": "command", "reason": "r", "at": AT, "entry": "1-0", "d": "x"}


async def close(server: LogServer) -> None:
    for partition in range(server.partitions):
        await server.redis.hdel(PartitionKeys(partition).meta, "verified")


@dataclass(frozen=True)
class Scene:
    """Something of everything: a running job, one that waits, one that is delivered, a letter."""

    server: LogServer
    lease: Lease
    waiting: str
    delivery: Delivery
    letter: LetterId

    async def create(self) -> None:
        await self.server.thread()

    async def post(self) -> None:
        await self.server.posted(self.lease.thread_id)

    async def begin(self) -> None:
        await self.server.begin(self.delivery)

    async def append(self) -> None:
        await self.server.append(self.lease, token(self.lease, 2))

    async def finish(self) -> None:
        await self.server.finish(self.lease, 2)

    async def cancel(self) -> None:
        await self.server.log.request_cancel(self.waiting, self.lease.thread_id)

    async def rename(self) -> None:
        change = ThreadUpdated(thread_id=self.lease.thread_id, at=AT, title="x")
        await self.server.threads.change_thread("alice", change)

    async def load(self) -> None:
        thread = await self.server.hot.thread(self.lease.thread_id)
        assert thread is not None
        gone = replace(thread, thread_id=f"thr_{9:032x}")
        await self.server.threads.load(gone)

    async def resume(self) -> None:
        key = self.server.keys(self.lease.thread_id).job(self.lease.job_id)
        await self.server.redis.hset(key, "owner_token", "")  # or it would change nothing
        await self.server.log.resume_attempt(self.lease)

    async def retry(self) -> None:
        await DeadLetters(self.server.redis).retry(self.letter)


@pytest.fixture
async def scene(server: LogServer) -> Scene:
    return await scene_of(server)


async def scene_of(server: LogServer) -> Scene:
    _, lease = await server.running()
    waiting = await server.posted(lease.thread_id)
    await server.posted(await server.thread())
    delivery = await server.deliver()
    assert delivery is not None
    letter = await server.redis.xadd(KEYS.dead, LETTER)
    return Scene(server, lease, waiting.job_id, delivery, LetterId(0, letter.decode()))


Write = Callable[[Scene], Awaitable[None]]
WRITES: list[Write] = [
    Scene.create, Scene.post, Scene.begin, Scene.append, Scene.finish,
    Scene.cancel, Scene.rename, Scene.load, Scene.retry,
]  # fmt: skip


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
async def test_a_closed_partition_takes_no_writes(server: LogServer, write: Write) -> None:
    scene = await scene_of(server)
    await close(server)
    before = await everything(server)
    with pytest.raises(LogUnavailable, match="UNVERIFIED"):
        await write(scene)
    assert await everything(server) == before
    await Continuity(server.redis, 1).trust()
    await write(scene)
    assert await everything(server) != before


async def test_a_closed_partition_gives_no_attempt_back(server: LogServer) -> None:
    scene = await scene_of(server)
    await close(server)
    with pytest.raises(LogUnavailable, match="UNVERIFIED"):
        await scene.resume()
    assert await server.redis.hget(KEYS.job(scene.lease.job_id), "owner_token") == b""


async def test_a_closed_partition_refuses_each_append_of_a_round(
    server: LogServer, scene: Scene
) -> None:
    await close(server)
    append = Append(scene.lease, [token(scene.lease, 2)])
    answers = await server.log.append_many([append, append])
    assert [type(answer) for answer in answers] == [LogUnavailable] * 2


async def test_reads_leases_and_retention_go_on_in_a_closed_partition(
    server: LogServer, scene: Scene
) -> None:
    await close(server)
    assert (await server.history(scene.lease.thread_id))[-1] == "message.posted"
    assert await server.hot.job(scene.lease.job_id) is not None
    assert not await server.hot.is_verified(scene.lease.keys.partition)
    assert (await renewed(server, scene.lease)).kept
    ids = await server.read_log(0, "p1", 100)
    positions = {scene.lease.thread_id: 4}
    await server.retention.report(0, "archived", positions)
    thread = await server.hot.thread(scene.lease.thread_id)
    assert thread is not None
    assert thread.archived == 4
    await server.acknowledge(0, ids)
    assert await server.retention.trim(0) > 0
    assert await server.log.release_lease(scene.lease, "w1")


@pytest.fixture
async def restarted(server: LogServer, valkey_server: Server) -> LogServer:
    """The log of a server that was started again; its first connection is a test's to make."""
    await server.redis.connection_pool.disconnect()
    valkey_server.hold()
    valkey_server.release()
    return server


async def test_the_first_connection_closes_whatever_it_came_for(
    restarted: LogServer, redis_url: str
) -> None:
    client: Any = connect(redis_url)
    assert await client.hget(KEYS.meta, "verified") is None
    await client.aclose()
    with pytest.raises(LogUnavailable, match="UNVERIFIED"):
        await restarted.thread()


async def test_a_connection_that_breaks_is_made_again_to_a_closed_partition(
    server: LogServer, valkey_server: Server
) -> None:
    """The pool had it open when the server went: no command slips through."""
    await server.thread()
    with valkey_server.away():
        pass
    with pytest.raises(LogUnavailable, match="UNVERIFIED"):
        await server.thread()


async def test_a_subscription_closes_it_too(restarted: LogServer, redis_url: str) -> None:
    client = connect(redis_url)
    pubsub = client.pubsub()
    await pubsub.subscribe("anything")
    with pytest.raises(LogUnavailable, match="UNVERIFIED"):
        await restarted.thread()
    await pubsub.aclose()
    await client.aclose()


async def test_every_partition_is_closed(redis_url: str, valkey_server: Server) -> None:
    client = connect_repeating(redis_url)
    server = LogServer(client, partitions=3)
    await server.prepare()
    with valkey_server.away():
        pass
    assert await Continuity(client, 3).closed() == [0, 1, 2]
    await Continuity(client, 3).open([1], await Continuity(client, 3).begin_life([1]))
    assert await Continuity(client, 3).closed() == [0, 2]
    await client.aclose()


async def test_it_is_closed_once_and_stays_open_for_later_connections(
    restarted: LogServer, redis_url: str
) -> None:
    await Continuity(restarted.redis, 1).trust()
    client = connect(redis_url)
    await client.ping()
    await client.aclose()
    await restarted.thread()


async def test_an_emptied_server_is_closed(server: LogServer) -> None:
    await server.redis.flushall()
    with pytest.raises(LogUnavailable, match="UNVERIFIED"):
        await server.thread()
    await Continuity(server.redis, 1).trust()
    await server.thread()


async def test_who_made_sure_of_an_earlier_life_cannot_open(
    server: LogServer, valkey_server: Server
) -> None:
    continuity = Continuity(server.redis, 1)
    earlier = await continuity.begin_life([0])
    with valkey_server.away():
        pass
    assert await continuity.closed() == [0]
    assert not await continuity.open([0], earlier)
    assert await continuity.closed() == [0]
    assert await continuity.open([0], await continuity.begin_life([0]))
    assert await continuity.closed() == []


async def test_the_newest_id_is_known_also_of_a_log_that_is_trimmed(server: LogServer) -> None:
    continuity = Continuity(server.redis, 1)
    await server.thread()
    [entry] = await server.read_log(0, "p1", 10)
    await server.acknowledge(0, [entry])
    await server.retention.trim(0)
    milliseconds, number = entry.decode().split("-")
    assert await continuity.last_log_id(0) == (int(milliseconds), int(number))
    await server.redis.delete(KEYS.log)
    assert await continuity.last_log_id(0) == NO_ID
