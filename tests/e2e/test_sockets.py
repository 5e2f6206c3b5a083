"""Devices of one user on two gateways: cut at random, each sees the whole thread once."""

from __future__ import annotations

import asyncio
import random
import sys

import aiohttp
import psycopg
import pytest

from infra.local.cluster import LocalCluster
from tests.e2e.archive import answer_of, archived_events
from tests.e2e.conftest import PAGE
from tests.support.gateway_client import GatewayClient
from tests.support.oracle import violations

pytestmark = pytest.mark.e2e

QUESTIONS = 4
VIEWERS = 5
CUTS = 10  # of each viewer
EVENTS = {"message": "message.posted", "stream_start": "started", "stream_chunk": "token"}
ADDED = {"position", "message_id", "index"}  # to the fields of an event
SECONDS_MAX = 90.0

Frame = dict[str, object]


async def watch(
    gateways: list[GatewayClient], thread_id: str, questions: int, dice: random.Random
) -> list[Frame]:
    """All logged frames up to the end of the last answer, over CUTS + 1 sockets or more."""
    seen: list[Frame] = []
    cuts = 0
    while sum(frame["type"] == "stream_end" for frame in seen) < questions:
        gateway = dice.choice(gateways)
        room = dice.randint(1, 12) if cuts < CUTS else 10_000
        cuts += 1
        after = seen[-1]["position"] if seen else 0
        url = f"{gateway.base_url}/v1/threads/{thread_id}/ws?after={after}"
        async with gateway.session.ws_connect(url) as socket:
            async for message in socket:
                if "position" in (frame := message.json()):
                    seen.append(frame)
                    room -= 1
                is_over = sum(f["type"] == "stream_end" for f in seen) == questions
                if is_over or room == 0:
                    break
    assert cuts > CUTS, "not every cut was made"
    return seen


def as_event(frame: Frame) -> Frame:
    """The event that a frame shows."""
    is_end = frame["type"] == "stream_end"
    left_out = {"position", "tokens_used"} if is_end else ADDED
    kind = "done" if is_end else EVENTS.get(str(frame["type"]), frame["type"])
    return {name: value for name, value in frame.items() if name not in left_out} | {"type": kind}


async def test_devices_that_are_cut_lose_and_repeat_nothing(
    client: GatewayClient, other_gateway: GatewayClient, postgres: psycopg.Connection
) -> None:
    dice = random.Random()
    _, thread = await client.call("POST", "/v1/threads", {})
    thread_id, jobs = thread["thread_id"], list[str]()
    for number in range(QUESTIONS):
        path = f"/v1/threads/{thread_id}/messages"
        _, accepted = await client.call("POST", path, {"content": f"{number}", "agent": "steady"})
        jobs.append(accepted["job_id"])
    async with asyncio.timeout(SECONDS_MAX):
        viewers = await asyncio.gather(
            *(
                watch([client, other_gateway], thread_id, QUESTIONS, random.Random(dice.random()))
                for _ in range(VIEWERS)
            )
        )
    for seen in viewers:
        assert [frame["position"] for frame in seen] == [*range(1, len(seen) + 1)]
        assert seen == viewers[0]
    for job_id in jobs:
        events = [as_event(f) for f in viewers[0] if f.get("job_id") == job_id and "seq" in f]
        job = await client.get(f"/v1/jobs/{job_id}")
        archived = await archived_events(postgres, job_id)  # waits; the message is as late
        message = answer_of(postgres, job_id)
        assert violations(events, job=job, message=message, archived=archived) == []


async def test_the_scripted_conversation_of_two_devices(
    cluster: LocalCluster, client: GatewayClient
) -> None:
    """As docs/protocol.md tells to run it, but on a gateway each."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.two_devices"),
        *(cluster.urls[0], cluster.token(client.user), "--other", cluster.urls[1]),
        *("--origin", PAGE, "--quick", "quick", "--slow", "slow"),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS_MAX):
        output, _ = await process.communicate()
    transcript = output.decode().splitlines()
    assert process.returncode == 0, transcript[-5:]
    assert transcript[-1].startswith("both saw the same ")
    assert transcript[-1].endswith(" events, each once and in order")
    said = "\n".join(transcript)
    for line in ("phone loses its connection", 'laptop ◀ {"type": "typing"', '"cancelled"'):
        assert line in said


async def test_a_foreign_page_is_refused_by_the_cluster(
    cluster: LocalCluster, client: GatewayClient
) -> None:
    _, thread = await client.call("POST", "/v1/threads", {})
    url = f"{client.base_url}/v1/threads/{thread['thread_id']}/ws"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.session.ws_connect(url, headers={"Origin": "https://evil.example"})
    assert refused.value.status == 403
