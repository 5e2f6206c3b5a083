"""A server that refuses writes refuses whole scripts, and the caller sees LogUnavailable."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from shared.dead_letters import DeadLetters
from shared.errors import LogUnavailable
from shared.event_log import Append, EventLog, Lease
from shared.events import ThreadDeleted
from shared.redis_scripts import run
from tests.support.log_server import (
    AT,
    Delivery,
    LogServer,
    RepeatingRedis,
    connect_repeating,
    token,
)

# A setting, its value in trouble, its value in peace.
OUT_OF_MEMORY = ("maxmemory", "1", "0")
NO_REPLICAS = ("min-replicas-to-write", "1", "0")


class Scene:
    """One job of everything: running, waiting, delivered, and a thread at rest."""

    def __init__(self, server: LogServer) -> None:
        self.server = server
        self.lease: Lease
        self.delivery: Delivery
        self.at_rest: str

    async def set_up(self) -> Scene:
        server = self.server
        _, self.lease = await server.running()
        await server.posted(self.lease.thread_id)
        await server.posted(await server.thread())
        delivery = await server.deliver()
        assert delivery is not None
        self.delivery, self.at_rest = delivery, await server.thread()
        return self

    async def create(self) -> object:
        return await self.server.thread()

    async def accept(self) -> object:
        return await self.server.posted(self.at_rest)

    async def begin(self) -> object:
        return await self.server.begin(self.delivery)

    async def append(self) -> object:
        return await self.server.append(self.lease, token(self.lease, 2))

    async def finish(self) -> object:
        return await self.server.finish(self.lease, 2)

    async def append_many(self) -> object:
        [answer] = await self.server.log.append_many([Append(self.lease, [token(self.lease, 2)])])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def cancel(self) -> object:
        command = self.delivery.command
        return await self.server.log.request_cancel(command.job_id, command.thread_id)

    async def delete(self) -> object:
        event = ThreadDeleted(thread_id=self.lease.thread_id, at=AT)
        return await self.server.threads.change_thread("alice", event)

    async def load(self) -> object:
        thread = await self.server.hot.thread(self.at_rest)
        assert thread is not None
        return await self.server.threads.load(thread)


WRITES = (
    Scene.create,
    Scene.accept,
    Scene.begin,
    Scene.append,
    Scene.finish,
    Scene.append_many,
    Scene.cancel,
    Scene.delete,
    Scene.load,
)


async def contents(redis: RepeatingRedis) -> dict[bytes, bytes | None]:
    """Every key and its value, as the server would save it."""
    names = sorted([name async for name in redis.scan_iter()])
    return {name: await redis.dump(name) for name in names}


@pytest.fixture
async def scene(server: LogServer) -> Scene:
    return await Scene(server).set_up()


@pytest.fixture
async def in_trouble(
    scene: Scene, redis: RepeatingRedis, request: pytest.FixtureRequest
) -> AsyncGenerator[Scene]:
    """The scene, on a server that refuses writes from now on."""
    name, trouble, peace = request.param
    await redis.config_set(name, trouble)
    yield scene
    await redis.config_set(name, peace)


troubles = pytest.mark.parametrize(
    "in_trouble", [OUT_OF_MEMORY, NO_REPLICAS], ids=lambda trouble: trouble[0], indirect=True
)


@troubles
@pytest.mark.parametrize("knows_script", [True, False], ids=["by hash", "by source"])
@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
async def test_a_refused_write_leaves_nothing_half_done(
    in_trouble: Scene,
    redis: RepeatingRedis,
    write: Callable[[Scene], Awaitable[object]],
    knows_script: bool,
) -> None:
    if not knows_script:
        await redis.script_flush()
    before = await contents(redis)
    with pytest.raises(LogUnavailable):
        await write(in_trouble)
    assert await contents(redis) == before


@pytest.mark.parametrize("in_trouble", [OUT_OF_MEMORY], indirect=True)
async def test_without_memory_work_can_be_kept_and_the_log_drained(
    in_trouble: Scene, redis: RepeatingRedis
) -> None:
    server, lease = in_trouble.server, in_trouble.lease
    kept = await run(redis, server.log.renew_call(lease, "w1"))
    assert EventLog.renewed(kept).kept
    ids = await server.read_log(0, "p1", 100)
    await server.retention.report(0, "processing", {in_trouble.at_rest: 1})
    await server.retention.report(0, "archived", {in_trouble.at_rest: 1})
    await server.acknowledge(0, ids)
    assert await server.retention.trim(0) == len(ids) - 1
    entry_id = in_trouble.delivery.entry_id
    assert await DeadLetters(redis).move_command(server.keys(""), entry_id, "given up")
    assert await server.log.release_lease(lease, "w1")


async def test_a_replica_is_log_unavailable(scene: Scene, redis: RepeatingRedis) -> None:
    await redis.execute_command("REPLICAOF", "127.0.0.1", 1)
    try:
        with pytest.raises(LogUnavailable):
            await scene.append()
    finally:
        await redis.execute_command("REPLICAOF", "NO", "ONE")
    assert await scene.finish() == "OK"


async def test_the_wrong_password_is_log_unavailable(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.redis_client.RETRIES_MAX", 0)
    client = connect_repeating(redis_url.replace("redis://default:", "redis://default:wrong"))
    with pytest.raises(LogUnavailable):
        await LogServer(client).thread()
    await client.aclose()
