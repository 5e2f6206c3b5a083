"""Whatever is lost between Redis and a gateway, and however often a client drops, nobody notices.

A writer speaks while publishes are lost, connections are killed and attempts begin anew; viewers at
random places, on two gateways, read at their own pace, vanish and resume. All draws come from a
seed, which the test's name tells.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from services.api import feed, follower
from shared import channels
from shared.codec import Record
from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.api.gateways import Client, Running, running_gateway
from tests.integration.api.sse_client import as_seen, seen
from tests.integration.api.waiting import eventually, soon
from tests.integration.api.worker import Attempt, Worker

SEEDS = range(6)
STEPS = 40
VIEWERS = 8
PAUSE_SECONDS_MAX = 0.01  # between two steps of the writer


@pytest.fixture(scope="module", autouse=True)
def quick() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "SWEEP_SECONDS", 0.1)
        patch.setattr(channels, "RECONNECT_SECONDS", 0.02)
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other_gateway(settings: Settings) -> AsyncGenerator[Running]:
    async with running_gateway(settings) as running:
        yield running


@dataclass
class Story:
    """What is being written: two jobs of one thread, one behind the other."""

    attempt: Attempt
    waiting: str  # the second job's id
    ended: bool = False
    end: int = 0  # the thread's last position, once it has ended

    @property
    def thread_id(self) -> str:
        return self.attempt.lease.thread_id


@dataclass
class Viewer:
    """Follows one job (or the thread: None) from a place on, until it has all."""

    client: Client
    job_id: str | None
    start: int
    frames: list[tuple[int, str | None, str | None]] = field(default_factory=list)
    connections: int = 0

    @property
    def cursor(self) -> int:
        return self.frames[-1][0] if self.frames else self.start

    def expected(self, records: list[Record]) -> list[tuple[int, str, str]]:
        if self.job_id is None:
            return as_seen(records[self.start :], by_seq=False)
        mine = [record for record in records if record.stream == self.job_id]
        return as_seen(mine[self.start :], by_seq=True)

    def has_all(self, story: Story) -> bool:
        if self.job_id is None:
            return story.ended and self.cursor >= story.end
        return bool(self.frames) and self.frames[-1][1] == "done"


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_viewer_sees_exactly_its_suffix(
    gateway: Running,
    other_gateway: Running,
    worker: Worker,
    user: str,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(follower, "BUFFER_BYTES_MAX", chance.choice([300, 2000, 10**6]))
    async with gateway.client(user) as client, other_gateway.client(user) as other:
        attempt = await worker.ask(client)
        path = f"/v1/threads/{attempt.lease.thread_id}/messages"
        waiting = await other.ok("POST", path, json={"content": "and then?"})
        story = Story(attempt, waiting["job_id"])
        await attempt.say(*"abc")
        viewers = [viewer_of(story, chance.choice([client, other]), chance) for _ in range(VIEWERS)]
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(write(story, worker, client, random.Random(seed + 1)))
            for number, viewer in enumerate(viewers):
                tasks.create_task(watch(viewer, story, random.Random(100 * seed + number)))
        records = await worker.records(story.thread_id)
    for viewer in viewers:
        assert viewer.frames == viewer.expected(records), viewer
    for running in (gateway, other_gateway):
        await eventually(lambda r=running: r.gateway.feed.follower_count == 0)
        assert not any(task.done() for task in running.gateway.feed.tasks)


def viewer_of(story: Story, client: Client, chance: random.Random) -> Viewer:
    match chance.randrange(3):
        case 0:
            return Viewer(client, None, chance.randint(0, 6))
        case 1:
            return Viewer(client, story.attempt.lease.job_id, chance.randint(0, 4))
        case _:
            return Viewer(client, story.waiting, 0)


async def write(story: Story, worker: Worker, client: Client, chance: random.Random) -> None:
    attempt = story.attempt
    for job in range(2):
        for _ in range(STEPS // 2):
            attempt = await step(attempt, client, chance)
            await asyncio.sleep(chance.uniform(0, PAUSE_SECONDS_MAX))
        await attempt.end(silently=chance.random() < 0.5)
        if job == 0:
            attempt = await worker.begin(story.waiting)
    story.end = (await worker.records(story.thread_id))[-1].position
    story.ended = True


async def step(attempt: Attempt, client: Client, chance: random.Random) -> Attempt:
    """Something happens: mostly speech, heard or not; the attempt that goes on."""
    match chance.random():
        case luck if luck < 0.1:
            await kill_subscriptions(attempt.worker.redis)
        case luck if luck < 0.17:
            return await attempt.worker.begin_again(attempt)
        case luck if luck < 0.27:
            path = f"/v1/threads/{attempt.lease.thread_id}"
            await client.ok("PATCH", path, json={"title": f"title {luck}"})
        case luck:
            texts = ["x" * chance.randint(1, 60) for _ in range(chance.randint(1, 4))]
            await attempt.say(*texts, silently=luck > 0.75)
    return attempt


async def kill_subscriptions(redis: Redis) -> None:
    await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


async def watch(viewer: Viewer, story: Story, chance: random.Random) -> None:
    path = f"/v1/jobs/{viewer.job_id}/events"
    if viewer.job_id is None:
        path = f"/v1/threads/{story.thread_id}/events"
    while not viewer.has_all(story):
        viewer.connections += 1
        patience = chance.choice([1, 3, 10, 1000])
        async with viewer.client.stream_events(path, after=viewer.cursor) as stream:
            while patience and not viewer.has_all(story):
                reading = asyncio.create_task(stream.take(1))
                ended = asyncio.create_task(eventually(lambda: viewer.has_all(story)))
                await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
                if not reading.done():
                    reading.cancel()
                    break
                viewer.frames += seen(reading.result())
                patience -= 1


@pytest.mark.parametrize("silently", [True, False])
async def test_what_is_said_while_the_connection_is_lost_is_read_once_it_is_back(
    client: Client,
    gateway: Running,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    silently: bool,
) -> None:
    monkeypatch.setattr(feed.Feed, "_sweep", _no_sweep)
    monkeypatch.setattr(channels, "RECONNECT_SECONDS", 0.3)
    attempt = await worker.ask(client)
    path = f"/v1/jobs/{attempt.lease.job_id}/events"
    async with client.stream_events(path) as stream:
        await stream.take(1)
        await eventually(lambda: all(f.is_level for f in gateway.gateway.feed._followers()))
        await kill_subscriptions(worker.redis)
        await attempt.say("unheard", silently=silently)
        await attempt.end(silently=silently)
        frames = await soon(stream.rest())
    assert [frame.event for frame in frames] == ["token", "done"]


async def _no_sweep(_: feed.Feed) -> None:
    """As if nobody looked."""
