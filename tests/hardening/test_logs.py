"""What the services log, all of it: never a token, a ticket or a word of anybody's."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from infra.local.cluster import LocalCluster
from tests.support.gateway_client import GatewayClient

SERVICES = ("api", "orchestrator", "persister")
FORGED = '\r\n{"event": "forged", "level": "error"}\n\u2028\x1b[2J\u202e'


def mark(name: str) -> str:
    return f"{name}-{secrets.token_hex(8)}"


def logged(cluster: LocalCluster) -> str:
    """Everything the three services have written."""
    folder = Path(cluster.plan.data_dir) / "logs"
    files = [path for path in folder.iterdir() if path.name.startswith(SERVICES)]
    assert {path.name.split("-")[0] for path in files} == set(SERVICES)
    return "".join(path.read_text() for path in files)


async def converse(client: GatewayClient, marks: dict[str, str]) -> list[str]:
    """Say every marked text in the place it names; the tickets that were given out."""
    session = {"X-Session-Id": "device-1", "Idempotency-Key": marks["key"]}
    metadata = {marks["metadata key"] + FORGED: marks["metadata value"] + FORGED}
    title, content = marks["title"] + FORGED, marks["content"] + FORGED
    body: dict[str, Any] = {"title": title, "metadata": metadata}
    status, thread = await client.call("POST", "/v1/threads", body)
    assert status == 201
    path = f"/v1/threads/{thread['thread_id']}"
    job = await client.ask(content, thread_id=thread["thread_id"], agent="echo", metadata=metadata)
    seen = await client.follow(job["job_id"])
    assert marks["content"] in seen.text
    await client.call("PATCH", path, {"title": marks["new title"] + FORGED})
    await client.call("GET", f"/v1/search/messages?q={quote(marks['query'] + FORGED)}")
    await client.call("PUT", f"{path}/participants/{marks['participant']}")
    _, ticket = await client.call("POST", "/v1/tickets", {"job_id": job["job_id"]})
    streams = f"/v1/jobs/{job['job_id']}/events?format=json&ticket={ticket['ticket']}"
    for url in (
        streams,
        f"/v1/agents?token={marks['token in a url']}",
        f"{path}?a={marks['query']}",
    ):
        await client.call("GET", url)
    for refused in ({"query": ""}, {"query": marks["refused"] + "\0"}, {marks["refused"]: 1}):
        assert (await client.call("POST", "/v1/jobs", refused))[0] == 400
    async with client.session.post(
        f"{client.base_url}/v1/jobs", json={"query": marks["keyed"]}, headers=session
    ) as response:
        assert response.status == 202
        await client.follow((await response.json())["job_id"])
    bad = {"Authorization": f"Bearer {marks['bad token']}.{marks['bad token']}.x"}
    async with client.session.get(f"{client.base_url}/v1/threads", headers=bad) as response:
        assert response.status == 401
    return [ticket["ticket"]]


@pytest.mark.e2e
async def test_logs_hold_no_secret_and_no_text(cluster: LocalCluster) -> None:
    names = (
        "key", "metadata key", "metadata value", "title", "content", "new title", "query",
        "token in a url", "refused", "keyed", "bad token", "participant",
    )  # fmt: skip
    marks = {name: mark(name.replace(" ", "")) for name in names}
    token = cluster.token("talker")
    async with GatewayClient(cluster.urls[0], token) as client:
        secret = [token, token.split(".")[2], *(await converse(client, marks))]
    text = logged(cluster)
    assert '"level": "debug"' in text
    paths = {marks["participant"]}  # a path is logged, and this one names a user
    words = {*secret, *marks.values()} - paths
    told = [line for line in text.split("\n") if any(word in line for word in words)]
    assert not told
    assert '"event": "forged"' not in text
    for line in text.split("\n")[:-1]:
        assert json.loads(line)["level"], line
