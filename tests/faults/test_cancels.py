"""Cancelling at any moment, by anybody, again and again: one end, and everybody agrees on it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

import aiohttp
import psycopg

from infra.local.cluster import LocalCluster
from tests.faults.arena import Arena, Row
from tests.faults.workload import EVENTS_MID_STREAM, Job, Viewer
from tests.support.gateway_client import parse_sse
from tests.support.oracle import stream_violations

RACES, LONG_RACES = 300, 1000
RACES_AT_ONCE = 32
RACE_SECONDS_MAX = 20.0
CLOSED_SECONDS_MAX = 1.0
MACHINE_SECONDS = 1.0  # two cores, shared with whatever else runs
POLL_SECONDS = 0.02
ENDS = """
SELECT j.job_id, j.status, j.last_seq, count(*), count(*) FILTER (WHERE e.type = 'done')
FROM jobs j JOIN events e ON e.stream_id = j.job_id WHERE j.owner = %s GROUP BY j.job_id
"""


async def _mid_stream(row: Row, agent: str) -> tuple[Job, Viewer]:
    job = await row.users.ask(f"to {agent}", agent=agent)
    viewer = row.users.watch(job)
    enough = 1 if agent == "reluctant" else EVENTS_MID_STREAM
    await row.users.until(lambda: len(viewer.events) >= enough, f"an answer of {agent}")
    return job, viewer


async def _aborted(cluster: LocalCluster) -> int:
    """Answers that the model server was not let finish."""
    url = str(cluster.plan.llm_base_url).removesuffix("/v1") + "/stats"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return (await response.json())["aborted"]


async def _statuses(row: Row, job: Job, *, gateways: tuple[int, ...]) -> list[str]:
    """What cancelling it on these gateways, all at once, is answered with."""
    path = f"/v1/jobs/{job.job_id}/cancel"
    asked = (row.users.send("POST", path, gateway=gateway) for gateway in gateways)
    return [reply.body["status"] for reply in await asyncio.gather(*asked)]


async def test_row_13_cancel_at_every_moment(arena: Arena) -> None:
    async with arena.row("13 cancel at every moment") as row:
        row.expect(codes=["not_found"])
        aborted = await _aborted(arena.cluster)
        [unsaid, mid, at_once, kept] = await asyncio.gather(
            *(_mid_stream(row, agent) for agent in ("reluctant", "slow", "slow", "slow"))
        )
        queued = await row.users.ask("and then?", agent="quick", thread_id=kept[0].thread_id)
        in_queue = row.users.watch(queued)
        foreign = await row.users.send(
            "POST", f"/v1/jobs/{kept[0].job_id}/cancel", user="somebody else"
        )
        began = time.monotonic()
        await _statuses(row, unsaid[0], gateways=(0,))
        await _statuses(row, mid[0], gateways=(0,))
        await _statuses(row, at_once[0], gateways=(0, 1))
        assert await _statuses(row, queued, gateways=(1,)) == ["cancelled"]
        while await _aborted(arena.cluster) < aborted + 3:
            assert time.monotonic() - began < CLOSED_SECONDS_MAX + MACHINE_SECONDS
            await asyncio.sleep(POLL_SECONDS)
        assert await _statuses(row, mid[0], gateways=(0, 1)) == ["cancelled"] * 2
        await row.users.finished()
        assert await _statuses(row, kept[0], gateways=(0, 1)) == ["done"] * 2
    assert foreign.status == 404
    ended = [viewer.events[-1] for _, viewer in (unsaid, mid, at_once, kept)]
    assert [event["status"] for event in ended] == ["cancelled"] * 3 + ["done"]
    assert ended[0]["content"] == ""
    assert ended[1]["content"]
    assert [event["type"] for event in in_queue.events] == ["done"]


async def test_row_13_races_of_cancel_and_done(arena: Arena) -> None:
    async with arena.row("13 races of cancel and done") as row:
        races = _Races(arena.cluster, f"racer-{row.random.getrandbits(64):016x}", row.random)
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {arena.cluster.token(races.user)}"},
            connector=aiohttp.TCPConnector(limit=2 * RACES_AT_ONCE),
        ) as session:
            await races.run(session, LONG_RACES if arena.options.long else RACES)
    assert races.wrong == []
    assert min(races.statuses["done"], races.statuses["cancelled"]) > 0, races.statuses
    with psycopg.connect(arena.cluster.database_url) as postgres:
        archived = postgres.execute(ENDS, (races.user,)).fetchall()
    assert {job_id: (status, last) for job_id, status, last, *_ in archived} == races.ends
    assert all((last, 1) == (count, done) for *_, last, count, done in archived)


class _Races:
    """Questions of one user that are cancelled about when they are done."""

    def __init__(self, cluster: LocalCluster, user: str, random: random.Random) -> None:
        self.user = user
        self.statuses: Counter[str] = Counter()
        self.ends: dict[str, tuple[str, int]] = {}
        self.wrong: list[str] = []
        self._urls, self._random = cluster.urls, random
        self._usual_seconds = 0.0  # from the beginning of an answer to its end
        self._turn = asyncio.Semaphore(RACES_AT_ONCE)

    async def run(self, session: aiohttp.ClientSession, count: int) -> None:
        async with asyncio.TaskGroup() as races:
            for _ in range(count):
                races.create_task(self._in_turn(session))

    async def _in_turn(self, session: aiohttp.ClientSession) -> None:
        async with self._turn, asyncio.timeout(RACE_SECONDS_MAX):
            events, answer = await self._race(session)
        done, job_id = events[-1], events[-1]["job_id"]
        async with session.get(f"{self._urls[1]}/v1/jobs/{job_id}") as response:
            view = await response.json()
        self.statuses[done["status"]] += 1
        self.ends[job_id] = done["status"], done["seq"]
        self.wrong += stream_violations(events)
        text = "".join(event["content"] for event in events if event["type"] == "token")
        told = [view["status"], view["content"], view["last_seq"]]
        if told != [done["status"], text, done["seq"]] or done["content"] != text:
            self.wrong.append(f"{job_id}: GET says {told}, the stream {done}")
        if answer not in ("running", done["status"]):
            self.wrong.append(f"{job_id}: ended as {done['status']}, and a cancel said {answer}")

    async def _race(self, session: aiohttp.ClientSession) -> tuple[list[dict[str, Any]], str]:
        """The events of one answer, and the status that cancelling it was answered with."""
        question = {"query": "quickly", "agent": "quick", "stream": True}
        events: list[dict[str, Any]] = []
        async with session.post(f"{self._urls[0]}/v1/jobs", json=question) as response:
            stream = parse_sse(response.content)
            events.append(await anext(stream))
            began = time.monotonic()
            cancelling = asyncio.create_task(self._cancel(session, events[0]["job_id"]))
            events += [event async for event in stream]
            self._usual_seconds += 0.1 * (time.monotonic() - began - self._usual_seconds)
        return events, await cancelling

    async def _cancel(self, session: aiohttp.ClientSession, job_id: str) -> str:
        await asyncio.sleep(self._random.uniform(0, 2 * self._usual_seconds))
        url = f"{self._random.choice(self._urls)}/v1/jobs/{job_id}/cancel"
        async with session.post(url) as response:
            return (await response.json())["status"]
