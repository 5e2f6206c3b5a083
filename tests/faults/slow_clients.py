"""Faults: clients that take next to nothing, and one that stands still; and who is still connected.

Plain sockets with a small receive buffer: what such a client does not take stays with the gateway.
`python -m tests.faults.slow_clients URL TOKEN` is a client process that takes its time.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psutil

RECEIVE_BUFFER_BYTES = 4096
TRICKLE_SECONDS = 1.0
SIP_BYTES, SIP_SECONDS = 1024, 0.05
CONNECT_SECONDS_MAX = 10.0
END_SECONDS_MAX = 10.0
ESTABLISHED = "01"  # as /proc/net/tcp has it


@asynccontextmanager
async def slow_clients(
    url: str, path: str, token: str, *, silent: int, trickling: int
) -> AsyncGenerator[None]:
    """So many clients that ask for a stream: some read nothing of it, some a byte a second."""
    sockets: list[socket.socket] = []
    reading: list[asyncio.Task[None]] = []
    try:
        for number in range(silent + trickling):
            sockets.append(await _asked(url, path, token))
            if number >= silent:
                reading.append(asyncio.create_task(_trickle(sockets[-1])))
        yield
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for one in sockets:
            one.close()


@contextmanager
def reading_process(url: str, path: str, token: str) -> Generator[int]:
    """A client in a process of its own, for signals: its pid."""
    command = (sys.executable, "-m", "tests.faults.slow_clients", url + path, token)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait(END_SECONDS_MAX)


def is_connected(pid: int) -> bool:
    """Whether the client process has reached somebody."""
    connections = psutil.Process(pid).net_connections("tcp")
    return any(one.status == psutil.CONN_ESTABLISHED for one in connections)


def connections_of(url: str) -> int:
    """The connections that a gateway holds, as its kernel sees them."""
    port = f"{urlsplit(url).port or 0:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    entries = [line.split() for line in lines]
    return sum(one[1].endswith(f":{port}") and one[3] == ESTABLISHED for one in entries)


async def _asked(url: str, path: str, token: str) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    client.setblocking(False)
    parts = urlsplit(url)
    head = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            await loop.sock_connect(client, (parts.hostname, parts.port))
            await loop.sock_sendall(client, f"{head}\r\n\r\n".encode())
    except BaseException:
        client.close()
        raise
    return client


async def _trickle(client: socket.socket) -> None:
    taken = b"a byte"
    while taken:
        await asyncio.sleep(TRICKLE_SECONDS)
        taken = await asyncio.get_running_loop().sock_recv(client, 1)


def _sip(url: str, token: str) -> None:
    """Take a stream in small sips."""
    request = Request(url, headers={"Authorization": f"Bearer {token}"})
    with urlopen(request, timeout=CONNECT_SECONDS_MAX) as response:
        while response.read(SIP_BYTES):
            time.sleep(SIP_SECONDS)


if __name__ == "__main__":
    _sip(*sys.argv[1:])
