"""The cluster that a storm rages over: two of each service, a proxy in every link, clocks that can
be set, and agents whose models fail in every way.

clients ─▶ proxy ─▶ api-1, api-2        service ─▶ proxy ─▶ Valkey, PostgreSQL, model
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from tests.faults.agents import AGENTS, write_agents
from tests.faults.forecast import CLIENTS, GATEWAYS, LINKS, SERVICES, models
from tests.faults.networked import Link, Network, networked
from tests.support.proxy import Proxy

SILENCE_SECONDS_MAX = 3.0
ENV = {
    # A worker that dies, or is cut off for a lease, takes an attempt of every job it has. In ten
    # minutes of strikes at Redis a long answer meets more of them than a limit that makes sense.
    "HEADWATER_ATTEMPTS_MAX": "48",
    "HEADWATER_LLM_TIMEOUT_SECONDS": str(SILENCE_SECONDS_MAX),
    "HEADWATER_LLM_IDLE_SECONDS": str(SILENCE_SECONDS_MAX),
    "FAULTS_PATCH": "odd_agents,own_clock",
}


@dataclass(frozen=True)
class StormCluster:
    """`clocks` holds a file for each service; `fronts` are how clients come to the gateways."""

    network: Network
    clocks: Path

    @property
    def running(self) -> LocalCluster:
        return self.network.cluster

    @asynccontextmanager
    async def fronts(self) -> AsyncGenerator[dict[Link, Proxy]]:
        """Proxies in front of the gateways, in the loop of the caller."""
        async with AsyncExitStack() as stack:
            yield {
                (CLIENTS, name): await stack.enter_async_context(_front(url))
                for name, url in zip(GATEWAYS, self.running.urls, strict=True)
            }


def _front(url: str) -> Proxy:
    return Proxy("127.0.0.1", urlsplit(url).port or 0)


@contextmanager
def storm_cluster(plan: Plan, folder: Path) -> Generator[StormCluster]:
    """The cluster, made after `plan`, in `folder`."""
    agents, clocks = folder / "agents.json", folder / "clocks"
    write_agents(agents, {**AGENTS, **models()})
    clocks.mkdir()
    for name in SERVICES:
        (clocks / name).write_text("0")
    own = replace(
        plan,
        launcher="tests.faults.launcher",
        env={**plan.env, **ENV, "HEADWATER_AGENTS_FILE": str(agents)},
        env_of={
            "migrate": {"FAULTS_PATCH": ""},
            **{name: {"FAULTS_CLOCK": str(clocks / name)} for name in SERVICES},
        },
    )
    with networked(own, folder, LINKS) as network:
        yield StormCluster(network, clocks)
