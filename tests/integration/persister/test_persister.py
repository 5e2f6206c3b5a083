"""A running persister: what it takes from the log, leaves in Postgres and lets go in Redis."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.codec import Record
from shared.events import ThreadDeleted, ThreadUpdated, utc_now
from shared.ids import new_thread_id
from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.persister.running import assembled, eventually, is_consumed, running
from tests.integration.persister.tables import archive, expected_read_model, read_model
from tests.integration.persister.writer import Writer


async def assert_archived(writer: Writer, engine: AsyncEngine) -> None:
    """The archive is the stream, and the read model what the stream comes to."""
    histories = {thread_id: await writer.records(thread_id) for thread_id in writer.threads}
    assert await archive(engine) == histories
    assert await read_model(engine) == expected_read_model(histories)


async def test_a_backlog_and_what_follows_are_archived(
    writer: Writer, settings: Settings, engine: AsyncEngine, redis: Redis
) -> None:
    first = await writer.chat()
    async with running(settings):
        await eventually(lambda: is_consumed(redis))
        await writer.chat(["x"] * 1500)
        second = await writer.ask(first.thread_id)
        await writer.change(ThreadUpdated(thread_id=first.thread_id, at=utc_now(), title="second"))
        await writer.answer(second, ["y"])
        await eventually(lambda: is_consumed(redis))
        await eventually(lambda: assert_archived(writer, engine))
    thread = (await read_model(engine))["threads"][first.thread_id]
    assert (thread["title"], thread["owner"], thread["status"]) == ("second", "alice", "active")


async def test_redis_lets_go_only_what_is_archived_whole(
    writer: Writer, settings: Settings, redis: Redis
) -> None:
    over, running_job = await writer.chat(), await writer.ask()
    lease = await writer.begin(running_job)
    await writer.say(lease, ["a"])

    async def expires(command: object) -> list[bool]:
        thread_id, job_id = command.thread_id, command.job_id
        keys = writer.keys(thread_id)
        names = [keys.thread(thread_id), keys.thread_events(thread_id), keys.job(job_id)]
        return [await redis.ttl(name) > 0 for name in names]

    assert await expires(over) == [False] * 3
    async with running(settings):
        await eventually(lambda: is_consumed(redis))
        await eventually(lambda: _all(expires(over)))
    assert await expires(running_job) == [False] * 3


async def _all(values: object) -> bool:
    return all(await values)
