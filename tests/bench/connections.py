"""What a connection costs: a gateway with many idle streams and sockets, and its memory for each.

    python -m tests.bench.connections --streams 2000 --sockets 500

Stores and the gateway are processes of their own; the clients are connections of this one, which
is not measured. There is a thread for every PER_THREAD clients, so that threads are paid for too.
Memory is the gateway's own (USS), after it has been left alone for SETTLE_SECONDS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import psutil

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from tests.bench.cpu import cpu_seconds
from tests.support.model_process import model_process

PER_THREAD = 10
AT_ONCE = 50  # handshakes
SETTLE_SECONDS = 3.0
OPEN_SECONDS_MAX = 120.0
CLIENTS_MAX = 5_000  # of each kind: this process holds them all
WARM_CLIENTS = 20  # opened and closed before anything is measured

IDLE_SECONDS = 5.0  # in which its CPU is measured

Opened = Callable[[AsyncExitStack, str], Awaitable[object]]


class Clients:
    """Idle ones of one user, on one gateway."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self._threads: list[str] = []

    async def threads(self, count: int) -> None:
        while len(self._threads) < count:
            async with self._session.post(f"{self._url}/v1/threads", json={}) as response:
                self._threads.append((await response.json())["thread_id"])

    async def stream(self, stack: AsyncExitStack, thread_id: str) -> object:
        """Open one, and read the thread's first event."""
        url = f"{self._url}/v1/threads/{thread_id}/events"
        response = await stack.enter_async_context(self._session.get(url))
        return await response.content.readuntil(b"\n\n")

    async def socket(self, stack: AsyncExitStack, thread_id: str) -> object:
        """Open one, and read the welcome and the thread's first event."""
        url = f"{self._url}/v1/threads/{thread_id}/ws"
        opened = self._session.ws_connect(url, autoping=True, heartbeat=None)
        socket = await stack.enter_async_context(opened)
        return [await socket.receive_json() for _ in range(2)]

    async def open(self, stack: AsyncExitStack, count: int, opened: Opened) -> float:
        """So many, spread over the threads; how many seconds it took."""
        await self.threads(max(1, count // PER_THREAD))
        began, room = time.monotonic(), asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with room:
                await opened(stack, self._threads[number % len(self._threads)])

        async with asyncio.timeout(OPEN_SECONDS_MAX):
            await asyncio.gather(*(one(number) for number in range(count)))
        return time.monotonic() - began


@asynccontextmanager
async def gateway(clients: int) -> AsyncGenerator[tuple[Clients, psutil.Process]]:
    env = {
        "HEADWATER_STREAMS_PER_USER": str(clients + WARM_CLIENTS),
        "HEADWATER_SOCKETS_PER_USER": str(clients + WARM_CLIENTS),
        "HEADWATER_RATE_LIMIT_PER_MINUTE": "0",
    }
    with TemporaryDirectory() as folder, model_process() as model_url:
        plan = Plan(data_dir=Path(folder), llm_base_url=model_url, env=env)
        with LocalCluster(plan) as cluster:
            headers = {"Authorization": f"Bearer {cluster.token('bench')}"}
            connector = aiohttp.TCPConnector(limit=0)
            timeout = aiohttp.ClientTimeout(total=None)
            async with aiohttp.ClientSession(
                headers=headers, connector=connector, timeout=timeout
            ) as session:
                yield Clients(session, cluster.urls[0]), psutil.Process(cluster.pid("api-1"))


async def measured(streams: int, sockets: int) -> dict[str, Any]:
    """Bytes and seconds, by kind."""
    async with gateway(max(streams, sockets)) as (clients, process), AsyncExitStack() as stack:
        for kind in (clients.stream, clients.socket):
            async with AsyncExitStack() as warm:
                await clients.open(warm, WARM_CLIENTS, kind)
        found: dict[str, Any] = {"gateway_bytes": await _settled(process)}
        for name, count, kind in (
            ("streams", streams, clients.stream),
            ("sockets", sockets, clients.socket),
        ):
            before = await _settled(process)
            seconds = await clients.open(stack, count, kind)
            after = await _settled(process)
            found[name] = {
                "open": count,
                "opened_per_second": round(count / seconds),
                "bytes_each": round((after - before) / count),
            }
        began, cpu = time.monotonic(), cpu_seconds(process.pid)
        await asyncio.sleep(IDLE_SECONDS)
        cpu = cpu_seconds(process.pid) - cpu
        found["idle_cpu_percent"] = round(100 * cpu / (time.monotonic() - began), 1)
        found["gateway_bytes_open"] = await _settled(process)
        return found


async def _settled(process: psutil.Process) -> int:
    await asyncio.sleep(SETTLE_SECONDS)
    return process.memory_full_info().uss


def counted(text: str) -> int:
    count = int(text)
    if not 1 <= count <= CLIENTS_MAX:
        raise argparse.ArgumentTypeError(f"1 to {CLIENTS_MAX}")
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description="What an idle connection costs.")
    parser.add_argument("--streams", type=counted, default=100)
    parser.add_argument("--sockets", type=counted, default=50)
    arguments = parser.parse_args()
    found = asyncio.run(measured(arguments.streams, arguments.sockets))
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
