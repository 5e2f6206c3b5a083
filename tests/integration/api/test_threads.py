"""/v1/threads: what goes in, what comes out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.integration.api.gateways import Client, Running
from tests.integration.api.worker import Worker

METADATA = {"colour": "blau", "n": [1, 2.5, None, True], "in": {"depth": {"of": "three"}}}


async def thread(client: Client, **body: Any) -> Any:
    return await client.ok("POST", "/v1/threads", json=body)


async def test_create(client: Client, user: str) -> None:
    body = {"title": "Reise nach ✈ São Paulo", "agent": "brief", "metadata": METADATA}
    response = await client.post("/v1/threads", json=body)
    made = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v1/threads/{made['thread_id']}"
    created = datetime.fromisoformat(made["created_at"])
    assert abs((datetime.now(UTC) - created).total_seconds()) < 60
    assert made["created_at"].endswith("Z")
    assert made == body | {
        "thread_id": made["thread_id"],
        "owner": user,
        "participants": [],
        "status": "active",
        "state": "PENDING",
        "active_job_id": None,
        "last_position": 1,
        "unread_count": 0,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert await client.ok("GET", f"/v1/threads/{made['thread_id']}") == made


async def test_create_with_nothing(client: Client) -> None:
    made = await thread(client)
    assert (made["title"], made["agent"], made["metadata"]) == (None, None, {})


async def test_update_changes_what_is_named(client: Client) -> None:
    made = await thread(client, title="old", metadata={"a": 1})
    path = f"/v1/threads/{made['thread_id']}"
    renamed = await client.ok("PATCH", path, json={"title": "new"})
    assert (renamed["title"], renamed["metadata"]) == ("new", {"a": 1})
    assert renamed["last_position"] == 2
    assert renamed["updated_at"] >= made["updated_at"]
    labelled = await client.ok("PATCH", path, json={"metadata": METADATA, "title": None})
    assert (labelled["title"], labelled["metadata"]) == ("new", METADATA)
    for status in ("archived", "active"):
        assert (await client.ok("PATCH", path, json={"status": status}))["status"] == status
    assert (await client.ok("GET", path))["title"] == "new"


async def test_delete_is_final(client: Client) -> None:
    path = f"/v1/threads/{(await thread(client))['thread_id']}"
    response = await client.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    for method in ("GET", "DELETE"):
        assert await client.problem(method, path) == (404, "not_found")
    assert await client.problem("PATCH", path, json={"title": "x"}) == (404, "not_found")
    assert await client.problem("GET", f"{path}/messages") == (404, "not_found")
    assert await client.problem("GET", f"{path}/events") == (404, "not_found")
    body = {"content": "are you there?"}
    assert await client.problem("POST", f"{path}/messages", json=body) == (404, "not_found")


async def test_delete_ends_the_feed_and_the_jobs(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    thread_id = attempt.lease.thread_id
    path = f"/v1/threads/{thread_id}"
    waiting = await client.ok("POST", f"{path}/messages", json={"content": "later"})
    async with (
        client.stream_events(f"{path}/events", after=4) as feed,
        client.stream_events(f"/v1/jobs/{waiting['job_id']}/events") as job,
        client.stream_events(f"/v1/jobs/{attempt.lease.job_id}/events") as running,
    ):
        await client.delete(path)
        assert [frame.event for frame in await feed.rest()] == ["done", "thread.deleted"]
        (done,) = await job.rest()
        assert done.json()["status"] == "cancelled"
        await attempt.end("cancelled")
        assert (await running.rest())[-1].json()["status"] == "cancelled"


async def test_a_running_job_shows(client: Client, worker: Worker) -> None:
    attempt = await worker.ask(client)
    path = f"/v1/threads/{attempt.lease.thread_id}"
    assert (await client.ok("GET", path))["active_job_id"] == attempt.lease.job_id
    await attempt.end()
    assert (await client.ok("GET", path))["active_job_id"] is None


async def test_list_is_by_activity_and_in_pages(client: Client) -> None:
    made = [(await thread(client, title=f"{n}"))["thread_id"] for n in range(7)]
    await client.ok("PATCH", f"/v1/threads/{made[2]}", json={"title": "touched"})
    expected = [made[2], *reversed(made[3:]), made[1], made[0]]
    found: list[str] = []
    path = "/v1/threads?limit=3"
    for size in (3, 3, 1):
        page = await client.ok("GET", path)
        assert len(page["items"]) == size
        found += [item["thread_id"] for item in page["items"]]
        path = f"/v1/threads?limit=3&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert sorted(found) == sorted(expected)
    assert found == expected or _has_equal_times(await client.ok("GET", "/v1/threads"))


def _has_equal_times(page: Any) -> bool:
    """Threads made in one millisecond stand in the order of their ids."""
    times = [item["updated_at"] for item in page["items"]]
    return len(set(times)) < len(times)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"a", "b", "c", "d"}),
        ("?status=active", {"a", "c"}),
        ("?status=archived", {"b", "d"}),
        ("?agent=brief", {"c", "d"}),
        ("?agent=brief&status=archived", {"d"}),
        ("?agent=nobody", set()),
    ],
)
async def test_list_is_filtered(client: Client, query: str, expected: set[str]) -> None:
    for title, agent, status in (
        ("a", None, "active"),
        ("b", "default", "archived"),
        ("c", "brief", "active"),
        ("d", "brief", "archived"),
    ):
        made = await thread(client, title=title, **({"agent": agent} if agent else {}))
        if status == "archived":
            await client.ok("PATCH", f"/v1/threads/{made['thread_id']}", json={"status": status})
    page = await client.ok("GET", f"/v1/threads{query}")
    assert {item["title"] for item in page["items"]} == expected


async def test_a_list_of_nothing(client: Client) -> None:
    assert await client.ok("GET", "/v1/threads") == {"items": [], "next_cursor": None}


async def test_agents(client: Client) -> None:
    agents = (await client.ok("GET", "/v1/agents"))["items"]
    assert [agent["name"] for agent in agents] == ["default", "brief"]
    assert agents[0].keys() == {"name", "description", "model"}


async def test_probes(gateway: Running) -> None:
    async with gateway.client(None) as anybody:
        assert await anybody.ok("GET", "/healthz") == {"status": "ok"}
        assert await anybody.ok("GET", "/readyz") == {"status": "ready", "problems": []}


async def test_every_answer_names_its_request(client: Client) -> None:
    for path, status in (("/v1/threads", 200), ("/v1/nothing", 404)):
        response = await client.get(path, headers={"X-Request-Id": "mine:1"})
        assert (response.status_code, response.headers["X-Request-Id"]) == (status, "mine:1")
    for bad in (b"a b", b"x" * 129, "ü".encode("latin-1")):
        response = await client.get("/v1/threads", headers={b"X-Request-Id": bad})
        assert len(response.headers["X-Request-Id"]) == 16
