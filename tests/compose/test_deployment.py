"""From a clean clone to a conversation through the proxy, and containers killed amid it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.compose.deployment import Container, Deployment
from tests.compose.patient import PATIENCE_SECONDS, PAUSE_SECONDS, PatientClient
from tests.support.gateway_client import Seen
from tests.support.oracle import violations

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]

SILENCE_SECONDS = 50  # longer than any bound of the proxy
VIEWERS = 2


def test_what_it_says_when_it_is_up_works_as_it_stands(deployment: Deployment) -> None:
    said = (deployment.folder / "said").read_text()
    assert f"Headwater is up: {deployment.url}" in said
    export, curl = re.findall(r"^(?:export|curl) .+$", said, re.MULTILINE)
    heard = deployment.run("bash", "-c", f"{export}\n{curl}")
    events = [json.loads(line[6:]) for line in heard.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "done"
    assert events[-1]["status"] == "done"
    assert len(events) > 5


async def test_a_conversation_over_a_websocket(deployment: Deployment) -> None:
    async with PatientClient(deployment, "wendy") as client:
        _, thread = await client.call("POST", "/v1/threads", {})
        url = f"{client.base_url}/v1/threads/{thread['thread_id']}/ws"
        async with client.session.ws_connect(url) as socket:
            await socket.send_json({"type": "message", "content": "Name a river."})
            kinds: list[str] = []
            while "stream_end" not in kinds:
                frame = await socket.receive_json(timeout=PATIENCE_SECONDS)
                kinds.append(frame["type"])
    assert "message" in kinds
    assert kinds.count("stream_chunk") > 1


async def test_tokens_are_not_held_back_and_silence_is_borne(scripted: Deployment) -> None:
    async with PatientClient(scripted, "silvia") as client:
        silent = await client.ask("Say nothing.", agent="silent")
        told = asyncio.create_task(client.watch(silent["job_id"], quiet := Seen()))
        steady = await client.ask("Speak on.", agent="steady")
        seen = await client.watch(steady["job_id"], Seen())
        assert seen.connections == 1
        assert seen.arrivals[-1] - seen.arrivals[0] > 10  # 600 tokens, 50 ms apart
        # The gateway's word every 15 s is all that keeps this one open.
        await asyncio.wait({told}, timeout=SILENCE_SECONDS)
        assert quiet.connections == 1
        await client.call("POST", f"/v1/jobs/{silent['job_id']}/cancel")
        assert (await told).events[-1]["status"] == "cancelled"


async def test_the_proxy_shows_what_is_for_clients_and_says_who_they_are(
    scripted: Deployment,
) -> None:
    async with PatientClient(scripted, "mallory") as client:
        for path in ("/metrics", "/readyz", "/", "/v1", "/v1/../metrics"):
            assert (await _status(client, path)) in (400, 404), path
        assert await _status(client, "/schema/openapi.json") == 200
        claims = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.8"}
        async with client.session.get(f"{client.base_url}/v1/agents", headers=claims) as answer:
            assert answer.status == 200
    addresses = scripted.ask_redis("KEYS", "hw:rate:address:*")
    assert addresses
    assert not [one for one in addresses if "203.0.113" in one]
    inside = scripted.env["HEADWATER_PROXY_NETWORK"].rsplit(".", 1)[0]
    assert not [one for one in addresses if inside in one], "everybody is the proxy"


async def test_a_head_that_does_not_end_is_not_waited_for(scripted: Deployment) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", scripted.port)
    writer.write(b"GET /v1/agents HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    began = time.monotonic()
    answer = await asyncio.wait_for(reader.read(), 30)
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 20
    writer.close()


@pytest.mark.parametrize(
    "service",
    ["proxy", "api", "orchestrator", "persister", "keeper", "valkey", "postgres", "scripted"],
)
async def test_every_container_of_a_service_is_killed_mid_stream(
    scripted: Deployment, service: str
) -> None:
    async with PatientClient(scripted, f"user-{service}") as client:
        jobs = [await client.ask(f"Question {n}", agent="steady") for n in range(VIEWERS)]
        seen = {job["job_id"]: Seen() for job in jobs}
        watchers = [asyncio.create_task(client.watch(job, of)) for job, of in seen.items()]
        await _speaking(list(seen.values()))
        await asyncio.to_thread(scripted.compose, "kill", service)
        assert not any(of.is_done for of in seen.values())
        await asyncio.to_thread(scripted.compose, "up", "-d")
        await asyncio.gather(*watchers)
        for job_id, of in seen.items():
            assert await _found(scripted, client, job_id, of) == []
    await asyncio.to_thread(scripted.until_well)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may signal a container's process")
@pytest.mark.parametrize(
    "service", ["proxy", "api", "orchestrator", "persister", "keeper", "valkey"]
)
async def test_what_dies_by_itself_is_started_again(scripted: Deployment, service: str) -> None:
    async with PatientClient(scripted, f"orphan-{service}") as client:
        job = await client.ask("And if you die?", agent="steady")
        watcher = asyncio.create_task(client.watch(job["job_id"], seen := Seen()))
        await _speaking([seen])
        for container in scripted.containers():
            if container.service == service:
                os.kill(container.pid, signal.SIGKILL)
        await watcher
        assert await _found(scripted, client, job["job_id"], seen) == []
    await asyncio.to_thread(scripted.until_well)
    counts = [one.facts["RestartCount"] for one in scripted.containers() if one.service == service]
    assert min(counts) >= 1


def test_what_runs_has_no_privilege(scripted: Deployment) -> None:
    for container in scripted.containers():
        if container.service == "migrate":
            continue
        status = _status_of(_server(container))
        assert set(status["Uid"].split()) != {"0"}, container.service
        assert int(status["CapEff"], 16) == 0, container.service
        assert status["NoNewPrivs"] == "1", container.service
        assert container.facts["HostConfig"]["ReadonlyRootfs"], container.service
        wrote = ("docker", "exec", "--user", "0", container.id, "sh", "-c", "! touch /usr/x 2>&1")
        scripted.run(*wrote)


def test_nothing_was_refused(scripted: Deployment) -> None:
    assert scripted.ask_redis("ACL", "LOG") in ([], [""])
    logs = scripted.compose("logs", "--no-color")
    refused = [
        line for line in logs.splitlines() if "NOPERM" in line or "permission denied" in line
    ]
    assert refused == []


async def _status(client: PatientClient, path: str) -> int:
    async with client.session.get(client.base_url + path) as answer:
        return answer.status


async def _speaking(viewers: list[Seen]) -> None:
    """Every viewer has seen a few tokens."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(seen.last_seq > 5 for seen in viewers):
        assert time.monotonic() < deadline, "nobody speaks"
        await asyncio.sleep(PAUSE_SECONDS)


async def _found(
    deployment: Deployment, client: PatientClient, job_id: str, seen: Seen
) -> list[str]:
    """What the oracle has to say, once the archive has the whole job."""
    archived: list[Any] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(archived) < len(seen.events):
            rows = f"SELECT data FROM events WHERE stream_id = '{job_id}' ORDER BY seq"
            archived = [json.loads(line) for line in deployment.query(rows)]
            await asyncio.sleep(PAUSE_SECONDS)
    text = f"SELECT to_json(content) FROM messages WHERE job_id = '{job_id}' AND role = 'assistant'"
    [message] = [json.loads(line) for line in deployment.query(text)]
    job = await client.get(f"/v1/jobs/{job_id}")
    return violations(seen.events, job=job, message=message, archived=archived)


def _server(container: Container) -> int:
    """The process that does the work: an init, where there is one, has one child."""
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
    is_init = "init" in Path(f"/proc/{container.pid}/comm").read_text()
    return int(children[0]) if is_init else container.pid


def _status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
