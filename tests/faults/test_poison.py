"""What no service can work off goes to the dead letters; whatever else is asked is answered."""

from __future__ import annotations

import asyncio
import time

from shared.keys import PartitionKeys
from shared.redis_client import connect
from tests.faults import poison
from tests.faults.arena import Arena, Row
from tests.faults.odd_cluster import ATTEMPTS_MAX
from tests.faults.workload import Job, Viewer

HEALTHY_JOBS = 16
HEALTHY_EVERY_SECONDS = 0.2
THROUGHPUT_MIN = 0.9
MACHINE_SECONDS = 1.0  # two cores, shared with whatever else runs


async def answered_in_time(row: Row, jobs: int = HEALTHY_JOBS) -> float:
    """Ask healthy questions at a steady rate: the share that is answered in the same time."""
    began, asked = time.monotonic(), list[Viewer]()
    for number in range(jobs):
        asked.append(row.users.watch(await row.users.ask(f"healthy {number}", agent="quick")))
        due = began + (number + 1) * HEALTHY_EVERY_SECONDS
        await asyncio.sleep(max(due - time.monotonic(), 0))
    await asyncio.sleep(MACHINE_SECONDS)
    return sum(viewer.is_done for viewer in asked) / jobs


async def test_row_16_poison_entries(odd_arena: Arena) -> None:
    async with odd_arena.row("16 poison commands and events") as row:
        keys = PartitionKeys(poison.POISON_PARTITION)
        put = {keys.commands: poison.commands(), keys.log: poison.events()}
        async with connect(odd_arena.cluster.redis_url) as redis:
            before = await poison.letters(redis)
            async with row.faults.lasting("poison"):
                for stream, entries in put.items():
                    await poison.put(redis, stream, entries)
                share = await answered_in_time(row)
            dead = await poison.letters(redis) - before
    assert share >= THROUGHPUT_MIN
    expected = [
        (kind, tuple(fields.items()))
        for kind, entries in (("command", put[keys.commands]), ("event", put[keys.log]))
        for fields in entries.values()
    ]
    assert sorted(dead.elements()) == sorted(expected)


async def test_row_16_a_job_that_kills_its_worker(odd_arena: Arena) -> None:
    async with (
        odd_arena.row("16 a job that kills its worker") as row,
        connect(odd_arena.cluster.redis_url) as redis,
    ):
        row.expect(status=["failed"])
        before = await poison.letters(redis)
        deadly = await row.users.ask("die", agent="deadly")
        viewer = row.users.watch(deadly)
        await answered_in_time(row)  # or later: for moments there is no worker left
        await row.users.finished()
        dead = await poison.letters(redis) - before
    told = [(event["type"], event["attempt"]) for event in viewer.events]
    attempts = [("started", number) for number in range(1, ATTEMPTS_MAX + 1)]
    assert told == [*attempts, ("error", ATTEMPTS_MAX), ("done", ATTEMPTS_MAX)]
    assert viewer.events[-2]["code"] == "attempts_exhausted"
    assert [kind for kind, _ in dead] == ["job"]
    assert _healthy_ended(row, deadly) == {"done"}


def _healthy_ended(row: Row, deadly: Job) -> set[str]:
    return {one.events[-1]["status"] for one in row.users.viewers if one.job != deadly}
