"""One whole cluster for the session: two of each service, a real model server, real stores."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import psycopg
import pytest

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from tests.support.gateway_client import GatewayClient
from tests.support.model_process import model_process
from tests.support.servers import Makers

LEASE_SECONDS = 2
PAGE = "https://chat.example"  # which may call the gateways
AGENTS = {
    "quick": "fake:tokens=20",
    "slow": "fake:tokens=150,delay_ms=20",
    "steady": "fake:tokens=60,delay_ms=10",
    "lengthy": "fake:tokens=180,delay_ms=10",
    "echo": "fake:echo",
    "silent": "fake:hang_before_first",
}


@pytest.fixture(scope="session")
def model_url() -> Generator[str]:
    with model_process() as url:
        yield url


@pytest.fixture(scope="session")
def cluster(
    model_url: str, makers: Makers, tmp_path_factory: pytest.TempPathFactory
) -> Generator[LocalCluster]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    agents = folder / "agents.json"
    specs = [{"name": name, "model": model} for name, model in AGENTS.items()]
    agents.write_text(json.dumps({"agents": specs}))
    env = {
        "HEADWATER_AGENTS_FILE": str(agents),
        "HEADWATER_LEASE_SECONDS": str(LEASE_SECONDS),
        "HEADWATER_HEARTBEAT_SECONDS": "0.5",
        "HEADWATER_ATTEMPTS_MAX": "8",
        "HEADWATER_CORS_ORIGINS": PAGE,
    }
    plan = Plan(
        data_dir=folder,
        llm_base_url=model_url,
        make_redis=makers.redis,
        make_postgres=makers.postgres,
        env=env,
        apis=2,
        orchestrators=2,
        persisters=2,
    )
    with LocalCluster(plan) as running:
        yield running


@pytest.fixture
async def client(cluster: LocalCluster) -> AsyncGenerator[GatewayClient]:
    """A user of the test's own, on the first gateway."""
    user = f"user-{random.getrandbits(64):016x}"
    async with GatewayClient(cluster.urls[0], cluster.token(user)) as client:
        client.user = user
        yield client


@pytest.fixture
async def other_gateway(
    cluster: LocalCluster, client: GatewayClient
) -> AsyncGenerator[GatewayClient]:
    """The same user on the second gateway."""
    async with GatewayClient(cluster.urls[1], cluster.token(client.user)) as other:
        yield other


@pytest.fixture
def postgres(cluster: LocalCluster) -> Generator[psycopg.Connection]:
    with psycopg.connect(cluster.database_url, autocommit=True) as connection:
        yield connection
