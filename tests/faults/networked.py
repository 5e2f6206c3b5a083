"""A cluster whose services reach Redis and Postgres by way of proxies, one for each pair.

orchestrator-1 ─▶ proxy ─┐
orchestrator-2 ─▶ proxy ─┼─▶ Valkey         the proxies run in a thread of their own, because
api, persister ─▶ proxy ─┘                  every test has a loop of its own
api … ─────────▶ proxy ───▶ PostgreSQL
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from infra.local.cluster import LocalCluster
from infra.local.machine import free_port
from infra.local.plan import Plan
from infra.local.postgres import postgres_url
from infra.local.state import load_identity, save_identity
from infra.local.valkey import find_server, valkey_url
from tests.support.proxy import Proxy

REDIS, POSTGRES, MODEL = "valkey", "postgres", "model"
Link = tuple[str, str]  # who speaks, and to whom
LINKS = (
    *(("orchestrator-1", REDIS), ("orchestrator-2", REDIS), ("persister-1", REDIS)),
    *(("api-1", REDIS), ("orchestrator-1", POSTGRES), ("orchestrator-2", POSTGRES)),
    *(("persister-1", POSTGRES), ("api-1", POSTGRES)),
)
VARIABLES = {
    REDIS: "HEADWATER_REDIS_URL",
    POSTGRES: "HEADWATER_DATABASE_URL",
    MODEL: "HEADWATER_LLM_BASE_URL",
}
CALL_SECONDS_MAX = 10.0


@dataclass(frozen=True)
class Network:
    """The proxies by link. Only numbers may be set from another thread."""

    cluster: LocalCluster
    proxies: dict[Link, Proxy]
    call: Callable[[Callable[[], object]], None]  # runs a function in the proxies' loop

    def heal(self) -> None:
        """Every link is as it should be again."""
        for proxy in self.proxies.values():
            proxy.delay_seconds = 0.0
            proxy.chunk_bytes = 64 << 10
            self.call(proxy.heal)


@contextmanager
def networked(plan: Plan, folder: Path, links: Sequence[Link] = LINKS) -> Generator[Network]:
    """The cluster of those who speak in `links`, with every link healthy. Without any `links`: two
    workers, one gateway, one persister."""
    identity = load_identity(folder)
    for name in (REDIS, POSTGRES):
        identity.ports[name] = free_port()
    redis = valkey_url(identity.ports[REDIS], identity.secret(REDIS))
    postgres = postgres_url(identity.ports[POSTGRES], identity.secret(POSTGRES))
    urls = {REDIS: redis, POSTGRES: postgres, MODEL: str(plan.llm_base_url)}
    ports = {server: urlsplit(url).port or 0 for server, url in urls.items()}
    save_identity(folder, identity)
    speakers = {speaker for speaker, _ in links}
    with _loop() as call, _proxies(call, links, ports) as proxies:
        env_of = {name: dict(plan.env_of.get(name, {})) for name in {*speakers, *plan.env_of}}
        for (service, server), proxy in proxies.items():
            env_of[service]["HEADWATER_CONSUMER_NAME"] = service
            env_of[service][VARIABLES[server]] = proxy.url(urls[server])
        own = replace(
            plan,
            data_dir=folder,
            apis=sum(name.startswith("api-") for name in speakers),
            persisters=sum(name.startswith("persister-") for name in speakers),
            env_of=env_of,
            redis_server=_patient_server(folder, plan.redis_server or find_server()),
        )
        with LocalCluster(own) as cluster:
            yield Network(cluster, proxies, call)


def _patient_server(folder: Path, server: Path) -> Path:
    """The server, which does not die of SIGXFSZ: so it meets the end of its disk as an error."""
    script = folder / "redis-server"
    script.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec '{server}' \"$@\"\n")
    script.chmod(0o755)
    return script


@contextmanager
def _loop() -> Generator[Callable[[Callable[[], object]], None]]:
    """A loop that runs in a thread; what is given calls something in it, and waits."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxies", daemon=True)
    thread.start()

    async def run(action: Callable[[], object]) -> None:
        result = action()
        if asyncio.iscoroutine(result):
            await result

    def call(action: Callable[[], object]) -> None:
        asyncio.run_coroutine_threadsafe(run(action), loop).result(CALL_SECONDS_MAX)

    try:
        yield call
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CALL_SECONDS_MAX)
        loop.close()


@contextmanager
def _proxies(
    call: Callable[[Callable[[], object]], None], links: Sequence[Link], ports: dict[str, int]
) -> Generator[dict[Link, Proxy]]:
    proxies = {(name, server): Proxy("127.0.0.1", ports[server]) for name, server in links}
    stack = AsyncExitStack()
    for proxy in proxies.values():
        call(partial(stack.enter_async_context, proxy))
    try:
        yield proxies
    finally:
        call(stack.aclose)
