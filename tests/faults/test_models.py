"""A model that fails in every way a model can: each job has one end, and says why."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

import aiohttp
import pytest

from tests.faults.arena import Arena, Row
from tests.faults.odd_cluster import ATTEMPTS_MAX, MODELS, OddCluster
from tests.faults.workload import Viewer

TRIES_MAX = 3  # of the first token, in one attempt
AWAY_SECONDS = 2.0  # the tries of those who asked last reach further
CLOSED_SECONDS_MAX = 2.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Expected:
    """The code of the `error` event, none for an answer that counts; and the requests made."""

    code: str | None
    requests: int
    attempts: int = 1


FAILURES = {
    "silent": Expected("model_timeout", TRIES_MAX),
    "stalled": Expected("model_timeout", ATTEMPTS_MAX, ATTEMPTS_MAX),
    "unauthorized": Expected("model_refused", 1),
    "limited": Expected("model_rate_limited", TRIES_MAX),
    "limited-for-long": Expected("model_rate_limited", 1),
    "broken": Expected("model_refused", TRIES_MAX),
    "cut": Expected("model_interrupted", ATTEMPTS_MAX, ATTEMPTS_MAX),
    "half-json": Expected("model_interrupted", ATTEMPTS_MAX, ATTEMPTS_MAX),
    "bad-utf8": Expected("model_interrupted", ATTEMPTS_MAX, ATTEMPTS_MAX),
    "long-line": Expected("model_interrupted", TRIES_MAX),
    "no-final": Expected("model_interrupted", ATTEMPTS_MAX, ATTEMPTS_MAX),
    "no-finish": Expected(None, 1),
    "cut-once": Expected(None, 2, 2),
}


async def statistics(odd: OddCluster) -> dict[str, object]:
    """What the model server has seen."""
    url = odd.model.url.removesuffix("/v1") + "/stats"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.json()


async def closed(odd: OddCluster) -> None:
    """Wait until no answer is under way at the model server."""
    deadline = time.monotonic() + CLOSED_SECONDS_MAX
    while (await statistics(odd))["open_streams"]:
        assert time.monotonic() < deadline, "answers that nobody reads are still under way"
        await asyncio.sleep(POLL_SECONDS)


async def asked_of_each(odd: OddCluster) -> Counter[str]:
    """Requests by the model that was asked for."""
    records = (await statistics(odd))["records"]
    assert isinstance(records, list)
    return Counter(record["model"] for record in records)


def code_of(viewer: Viewer) -> str | None:
    """Why the job failed, as its viewer was told."""
    codes = [event["code"] for event in viewer.events if event["type"] == "error"]
    assert len(codes) == (viewer.events[-1]["status"] == "failed")
    return codes[0] if codes else None


async def watched(row: Row, *agents: str) -> dict[str, Viewer]:
    """One question for each agent, watched."""
    jobs = await asyncio.gather(*(row.users.ask(f"to {agent}", agent=agent) for agent in agents))
    return {agent: row.users.watch(job) for agent, job in zip(agents, jobs, strict=True)}


async def test_row_12_a_model_that_fails(odd_arena: Arena, odd: OddCluster) -> None:
    async with odd_arena.row("12 the model fails in each way") as row:
        row.expect(status=["failed"])
        before = await asked_of_each(odd)
        unaffected = await row.users.stream(4, agent="slow")
        viewers = await watched(row, *FAILURES)
        await row.users.finished()
        await closed(odd)
        requests = await asked_of_each(odd) - before
    for agent, expected in FAILURES.items():
        viewer = viewers[agent]
        found = code_of(viewer), requests[MODELS[agent]], viewer.events[-1]["attempt"]
        assert found == (expected.code, expected.requests, expected.attempts), agent
    for viewer in row.users.viewers:
        if viewer.job in unaffected:
            assert (viewer.events[-1]["status"], viewer.events[-1]["attempt"]) == ("done", 1)


@pytest.mark.thorough
async def test_row_12_a_model_server_that_is_away(odd_arena: Arena, odd: OddCluster) -> None:
    async with odd_arena.row("12 the model server is killed and away") as row:
        await row.users.stream(4, agent="slow")
        async with row.faults.lasting("model away"):
            odd.model.kill()
            asked_meanwhile = await watched(row, "quick", "steady")
            await asyncio.sleep(AWAY_SECONDS)
            odd.model.start()
        await row.users.finished()
    for viewer in (*row.users.viewers[:4], *asked_meanwhile.values()):
        assert viewer.events[-1]["status"] == "done"
    assert row.figures.attempts_max <= ATTEMPTS_MAX
