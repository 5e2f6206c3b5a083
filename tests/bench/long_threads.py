"""A token's cost by the length of its thread: threads are made up, archived, and then asked in."""

from __future__ import annotations

import json

import uvloop

from tests.bench.growth import Growth, Point, described, point
from tests.bench.made_up_log import LogFeed, log_feed, thread_of
from tests.bench.rig import Rig
from tests.bench.sizes import Load, Sizes, Speech
from tests.bench.streams import Request

MESSAGES_PER_TURN = 2


def threads(rig: Rig, sizes: Sizes) -> Growth:
    return uvloop.run(_measure(rig, sizes))


async def _measure(rig: Rig, sizes: Sizes) -> Growth:
    points: list[Point] = []
    async with log_feed(rig.cluster.redis_url) as feed:
        for messages in sizes.thread_messages:
            thread_id = await _made(feed, messages)
            await rig.settled()
            points.append(await _point(rig, messages, thread_id, sizes.in_thread))
    return Growth("messages of a thread", described(sizes.in_thread), points)


async def _made(feed: LogFeed, messages: int) -> str:
    turns = messages // MESSAGES_PER_TURN
    thread_id, written = thread_of("bench-0", turns=turns, tokens=1)
    for turn in written:
        await feed.add(feed.packed(thread_id, turn))
    return thread_id


async def _point(rig: Rig, messages: int, thread_id: str, load: Load) -> Point:
    url = f"{rig.cluster.url}/v1/threads/{thread_id}/messages"

    def ask(speech: Speech, _: int) -> Request:
        asked = {"content": "measure", "agent": speech.agent, "stream": True}
        return Request.of("POST", url, token=rig.token(0), body=json.dumps(asked).encode())

    return await point(rig, messages, load, 1, ask)
