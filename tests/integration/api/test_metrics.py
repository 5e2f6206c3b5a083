"""What Prometheus reads: requests, problems, streams, and what waits in the partitions."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from services.api import metrics
from shared.dead_letters import DeadLetters
from shared.ids import partition_of
from shared.keys import PartitionKeys
from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.api.gateways import (
    PARTITIONS,
    Client,
    Running,
    proxied,
    running_gateway,
)
from tests.integration.api.waiting import eventually
from tests.integration.api.worker import Worker
from tests.support.servers import empty_and_open

PAGE_SECONDS_MAX = 3.0
Figures = dict[str, dict[tuple[tuple[str, str], ...], float]]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page looks anew."""
    monkeypatch.setattr(metrics, "FRESH_SECONDS", 0.0)


@pytest_asyncio.fixture(loop_scope="module")
async def counting(settings: Settings) -> AsyncGenerator[Running]:
    """A gateway that has counted nothing yet."""
    async with running_gateway(settings) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def asking(counting: Running, user: str) -> AsyncGenerator[Client]:
    async with counting.client(user) as client:
        yield client


async def text_of(running: Running) -> str:
    async with running.client(None) as nobody:
        response = await nobody.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return response.text


async def figures(running: Running) -> Figures:
    found: Figures = {}
    for family in text_string_to_metric_families(await text_of(running)):
        for sample in family.samples:
            key = tuple(sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[key] = sample.value
    return found


def labels(**named: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(named.items()))


async def test_requests_are_counted_by_route(counting: Running, asking: Client) -> None:
    for number in range(20):
        await asking.get(f"/v1/jobs/job_00{number}")
        await asking.get(f"/no/such/{number}")
        await asking.get(f"/schema/assets/{number}.js")
        await asking.request(f"ODD{number}", "/v1/agents")
    found = await figures(counting)
    requests = found["headwater_http_requests_total"]
    job = labels(method="GET", route="/v1/jobs/{job_id}", status="404")
    assert requests[job] == 20
    assert len(requests) <= 4, "one series, whatever was asked for"
    timed = found["headwater_http_response_start_seconds_count"]
    assert timed[labels(method="GET", route="/v1/jobs/{job_id}")] == 20


async def test_problems_are_counted_by_code(counting: Running, asking: Client) -> None:
    await asking.get("/v1/jobs/job_00none")
    await asking.post("/v1/jobs", json={"query": ""})
    async with counting.client(None) as nobody:
        await nobody.get("/v1/agents")
    problems = (await figures(counting))["headwater_http_problems_total"]
    counted = {dict(key)["code"]: value for key, value in problems.items() if value}
    assert counted == {"not_found": 1, "invalid_request": 1, "unauthorized": 1}
    assert len(problems) > len(counted), "a code that has not come up is 0, not missing"


async def test_nobody_is_named(counting: Running, asking: Client, user: str) -> None:
    thread = (await asking.ok("POST", "/v1/threads", json={}))["thread_id"]
    await asking.ok("GET", f"/v1/threads/{thread}")
    page = await text_of(counting)
    assert user not in page
    assert thread not in page
    assert "127.0.0.1" not in page


async def test_streams_are_shown_while_they_are_open(
    counting: Running, asking: Client, worker: Worker
) -> None:
    async def is_shown(count: int) -> bool:
        found = await figures(counting)
        names = ("headwater_streams_open", "headwater_followers", "headwater_threads_followed")
        return [found[name][()] for name in names] == [count] * 3

    attempt = await worker.ask(asking)
    async with asking.stream_events(f"/v1/jobs/{attempt.lease.job_id}/events") as stream:
        await stream.take(1)
        assert await is_shown(1)
    await eventually(lambda: is_shown(0))


async def shown(running: Running, name: str) -> list[float]:
    """A figure of each partition."""
    found = await figures(running)
    series = found.get(f"headwater_{name}", {})
    return [series[labels(partition=str(number))] for number in range(len(series))]


async def test_what_waits_in_the_partitions(
    counting: Running, asking: Client, worker: Worker, redis: Redis, settings: Settings
) -> None:
    empty_and_open(settings.required("redis_url"))
    await worker.prepare()
    accepted = await asking.ok("POST", "/v1/jobs", json={"query": "hi"})
    partition = partition_of(accepted["job_id"])

    async def here(name: str) -> float:
        by_partition = await shown(counting, name)
        assert len(by_partition) == PARTITIONS
        assert sum(by_partition) == by_partition[partition]
        return by_partition[partition]

    assert (await here("commands_waiting"), await here("commands_pending")) == (1, 0)
    assert await here("log_entries") == 2
    assert await here("log_pending") == 0
    assert 0 < await here("log_seconds") < 60
    attempt = await worker.begin(accepted["job_id"])
    assert (await here("commands_waiting"), await here("commands_pending")) == (0, 1)
    assert await here("dead_letters") == 0
    keys = PartitionKeys(partition)
    assert await DeadLetters(redis).move_command(keys, attempt.entry_id, "of the test")
    assert await here("dead_letters") == 1
    assert (await here("commands_waiting"), await here("commands_pending")) == (0, 0)
    assert await shown(counting, "partition_open") == [1] * PARTITIONS


async def test_without_redis_the_page_says_so(settings: Settings, user: str) -> None:
    async with (
        proxied(settings) as (network, through),
        running_gateway(through) as running,
    ):
        assert (await figures(running))["headwater_redis_up"][()] == 1
        assert len(await shown(running, "log_entries")) == PARTITIONS
        network.cut(network.redis)
        began = time.monotonic()
        found = await figures(running)
        assert time.monotonic() - began < PAGE_SECONDS_MAX
        assert found["headwater_redis_up"][()] == 0
        assert "headwater_log_entries" not in found
        assert "headwater_http_requests_total" in found
