"""Whoever got a 2xx sees it in the next read: on any gateway, whatever the persister does.

A user works on two gateways at once and compares every answer with a model. Draws come from a seed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from shared.settings import Settings
from tests.integration.api.gateways import Client, Running, running_gateway
from tests.integration.api.persisting import archive_all, let_go, running_persister
from tests.integration.api.waiting import eventually
from tests.integration.api.worker import Worker

STEPS = 20
THREADS_MANY = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other_gateway(settings: Settings) -> AsyncGenerator[Running]:
    async with running_gateway(settings) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def other(other_gateway: Running, user: str) -> AsyncGenerator[Client]:
    """The same user on the other gateway."""
    async with other_gateway.client(user) as client:
        yield client


@dataclass
class Known:
    """A thread as its user knows it."""

    title: str
    status: str = "active"
    agent: str | None = None
    messages: list[str] = field(default_factory=list[str])


@dataclass
class UserModel:
    """A user, what they have done, and the comparison with what they are told."""

    clients: list[Client]
    worker: Worker
    chance: random.Random
    threads: dict[str, Known] = field(default_factory=dict[str, Known])
    deleted: list[str] = field(default_factory=list[str])

    @property
    def client(self) -> Client:
        return self.chance.choice(self.clients)

    async def step(self) -> None:
        thread_id = self.chance.choice([*self.threads]) if self.threads else None
        luck = self.chance.random()
        if thread_id is None or luck < 0.25:
            await self.create()
        elif luck < 0.4:
            title = f"title {luck}"
            await self.client.ok("PATCH", f"/v1/threads/{thread_id}", json={"title": title})
            self.threads[thread_id].title = title
        elif luck < 0.55:
            status = self.chance.choice(["active", "archived"])
            await self.client.ok("PATCH", f"/v1/threads/{thread_id}", json={"status": status})
            self.threads[thread_id].status = status
        elif luck < 0.62:
            await self.client.ok("DELETE", f"/v1/threads/{thread_id}")
            del self.threads[thread_id]
            self.deleted.append(thread_id)
        else:
            await self.post(thread_id)

    async def create(self) -> None:
        agent = self.chance.choice([None, "brief"])
        body = {"title": "new"} | ({"agent": agent} if agent else {})
        made = await self.client.ok("POST", "/v1/threads", json=body)
        self.threads[made["thread_id"]] = Known("new", agent=agent)

    async def post(self, thread_id: str) -> None:
        messages = self.threads[thread_id].messages
        text = f"question {len(messages)}"
        attempt = await self.worker.ask(self.client, text, thread_id=thread_id)
        messages.append(text)
        if self.chance.random() < 0.5:
            await self.check_messages(thread_id)
        await attempt.say("answer")
        await attempt.end()
        messages.append("answer")

    async def check(self) -> None:
        for status in (None, "active", "archived"):
            for agent in (None, "brief"):
                await self.check_list(status, agent)
        for thread_id in self.chance.sample([*self.threads], min(2, len(self.threads))):
            thread = await self.client.ok("GET", f"/v1/threads/{thread_id}")
            known = self.threads[thread_id]
            assert (thread["title"], thread["status"]) == (known.title, known.status)
            await self.check_messages(thread_id)
        for thread_id in self.deleted[-2:]:
            path = f"/v1/threads/{thread_id}"
            assert await self.client.problem("GET", path) == (404, "not_found")

    async def check_list(self, status: str | None, agent: str | None) -> None:
        expected = {
            thread_id: (known.title, known.status)
            for thread_id, known in self.threads.items()
            if status in (None, known.status) and agent in (None, known.agent)
        }
        query = "".join(f"&{n}={v}" for n, v in (("status", status), ("agent", agent)) if v)
        found = await all_pages(self.clients, query, self.chance)
        assert len(found) == len(expected)
        assert {t["thread_id"]: (t["title"], t["status"]) for t in found} == expected
        order = [(t["updated_at"], t["thread_id"]) for t in found]
        assert order == sorted(order, reverse=True)

    async def check_messages(self, thread_id: str) -> None:
        page = await self.client.ok("GET", f"/v1/threads/{thread_id}/messages?limit=200")
        assert [item["content"] for item in page["items"]] == self.threads[thread_id].messages
        assert page["total"] == len(self.threads[thread_id].messages)


async def all_pages(clients: list[Client], query: str, chance: random.Random) -> list[Any]:
    """A whole list, page by page, each from any gateway."""
    found: list[Any] = []
    cursor = ""
    while True:
        path = f"/v1/threads?limit={chance.randint(1, 5)}{query}{cursor}"
        page = await chance.choice(clients).ok("GET", path)
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


@asynccontextmanager
async def persister_of(kind: str, settings: Settings) -> AsyncGenerator[None]:
    async with AsyncExitStack() as stack:
        if kind == "running":
            await stack.enter_async_context(running_persister(settings))
        yield


@pytest.mark.parametrize("persister", ["stopped", "running", "now and then", "thorough"])
@pytest.mark.parametrize("seed", range(2))
async def test_every_read_shows_what_was_done(
    client: Client,
    other: Client,
    worker: Worker,
    settings: Settings,
    persister: str,
    seed: int,
) -> None:
    model = UserModel([client, other], worker, random.Random(seed))
    async with persister_of(persister, settings):
        for number in range(STEPS):
            await model.step()
            await model.check()
            if persister in ("now and then", "thorough") and number % 5 == 4:
                await archive_all(settings, worker.redis)
                for thread_id in model.threads if persister == "thorough" else ():
                    await let_go(worker, thread_id)


@pytest.mark.parametrize("persister", ["stopped", "running"])
async def test_pages_while_threads_move(
    client: Client, other: Client, worker: Worker, settings: Settings, persister: str
) -> None:
    """Who stays where it is is seen once; who moves to the front, once at most."""
    threads = [
        (await client.ok("POST", "/v1/threads", json={"title": f"{n}"}))["thread_id"]
        for n in range(THREADS_MANY)
    ]
    chance = random.Random(1)
    moved = set[str]()

    async def move() -> None:
        for thread_id in chance.sample(threads, THREADS_MANY // 3):
            moved.add(thread_id)
            await other.ok("PATCH", f"/v1/threads/{thread_id}", json={"title": "moved"})

    async with persister_of(persister, settings):
        moving = asyncio.create_task(move())
        found = [t["thread_id"] for t in await all_pages([client, other], "", chance)]
        await moving
        assert len(set(found)) == len(found)
        assert set(threads) - moved <= set(found) <= set(threads)
        again = [t["thread_id"] for t in await all_pages([client, other], "", chance)]
        assert sorted(again) == sorted(threads)
        assert set(again[: len(moved)]) == moved


async def test_a_thread_that_is_archived_between_two_pages_keeps_its_place(
    client: Client, worker: Worker, settings: Settings
) -> None:
    for number in range(4):
        attempt = await worker.ask(client, f"{number}")
        await attempt.end()
    first = await client.ok("GET", "/v1/threads?limit=2")
    await archive_all(settings, worker.redis)
    rest = await client.ok("GET", f"/v1/threads?limit=5&cursor={first['next_cursor']}")
    found = [item["thread_id"] for item in first["items"] + rest["items"]]
    assert len(found) == len(set(found)) == 4
    again = await client.ok("GET", "/v1/threads")
    assert [item["thread_id"] for item in again["items"]] == found
    times = [item["updated_at"] for item in first["items"] + rest["items"]]
    assert [item["updated_at"] for item in again["items"]] == times


async def test_a_state_is_seen_as_it_changes(
    client: Client, other: Client, worker: Worker, settings: Settings
) -> None:
    made = await client.ok("POST", "/v1/threads", json={})
    path = f"/v1/threads/{made['thread_id']}"
    assert (await other.ok("GET", path))["state"] == "PENDING"

    async def is_active() -> bool:
        return (await other.ok("GET", path))["state"] == "ACTIVE"

    async with running_persister(settings):
        await eventually(is_active)
