"""A conversation of one user on two devices, and what each of them saw, line by line.

    python -m tests.support.two_devices URL TOKEN

The phone is a page: it gets a ticket, and comes with an `Origin` if it is given one. The laptop is
a program: it sends its token. `phone ▶` is what the phone sent, `phone ◀` what it received.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp

FRAME_SECONDS_MAX = 60.0
LEFT_OUT = frozenset({"trace_id", "v", "at", "deltas", "metadata", "job_id", "seq"})  # of a line

Frame = dict[str, Any]
Tell = Callable[[str], object]


class Device:
    """One socket at a time, over which everything of the thread is seen once."""

    def __init__(self, name: str, url: str, token: str, tell: Tell, *, page: str | None) -> None:
        self.name, self._url, self._tell, self._page = name, url, tell, page
        self._headers = {"Authorization": f"Bearer {token}", "X-Session-Id": name}
        self.seen: list[Frame] = []  # of the thread, over all sockets

    @property
    def position(self) -> int:
        return self.seen[-1]["position"] if self.seen else 0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(FRAME_SECONDS_MAX))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def post(self, path: str, body: Any) -> Any:
        sent = self._session.post(self._url + path, json=body, headers=self._headers)
        async with sent as response:
            response.raise_for_status()
            return await response.json()

    async def open(self, thread_id: str, *, by_ticket: bool) -> None:
        """Open a socket behind what was seen before."""
        query, headers = {"after": str(self.position)}, self._headers
        if by_ticket:
            made = await self.post("/v1/tickets", {"thread_id": thread_id})
            query["ticket"] = made["ticket"]
            headers = {"Origin": self._page} if self._page else {}
        address = f"{self._url}/v1/threads/{thread_id}/ws?{urlencode(query)}"
        self._socket = await self._session.ws_connect(address, headers=headers)
        self._tell(f"{self.name} opens a socket behind position {self.position}")
        await self.until("system")

    async def cut(self) -> None:
        """As a train does that goes into a tunnel: nobody says goodbye."""
        self._tell(f"{self.name} loses its connection at position {self.position}")
        writer = self._socket._writer  # pyright: ignore[reportPrivateUsage] -- no polite close
        writer.transport.abort()
        await self._socket.close()

    async def send(self, kind: str, **fields: Any) -> None:
        frame = {"type": kind, **fields}
        self._tell(f"{self.name} ▶ {json.dumps(frame, ensure_ascii=False)}")
        await self._socket.send_json(frame)

    async def next(self) -> Frame:
        async with asyncio.timeout(FRAME_SECONDS_MAX):
            message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(f"{self.name}: closed with {self._socket.close_code}")
        frame = json.loads(message.data)
        shown = {name: value for name, value in frame.items() if name not in LEFT_OUT}
        self._tell(f"{self.name} ◀ {json.dumps(shown, ensure_ascii=False)}")
        if "position" in frame:
            self.seen.append(frame)
        return frame

    async def until(self, kind: str, **fields: Any) -> Frame:
        """The next frame of a type that has these fields."""
        while True:
            frame = await self.next()
            if frame["type"] == kind and fields.items() <= frame.items():
                return frame


async def converse(
    phone: Device, laptop: Device, *, quick: str | None = None, slow: str | None = None
) -> None:
    """Raises AssertionError when the two did not see the same. Agents: none, the first one."""
    thread_id = (await phone.post("/v1/threads", {"title": "Two devices"}))["thread_id"]
    async with asyncio.TaskGroup() as both:
        both.create_task(phone.open(thread_id, by_ticket=True))
        both.create_task(laptop.open(thread_id, by_ticket=False))
    await phone.send("typing", is_typing=True)
    await laptop.until("typing", is_typing=True)
    await phone.send("message", id="q1", content="Where does a river begin?", **_by(quick))
    await asyncio.gather(phone.until("stream_end"), laptop.until("stream_end"))

    await laptop.send("message", id="q2", content="And where does it end?", **_by(slow or quick))
    await phone.until("stream_chunk")
    await phone.cut()
    await asyncio.gather(laptop.until("stream_end"), _come_back(phone, thread_id))

    await laptop.send("message", id="q3", content="Tell me all of it.", **_by(slow or quick))
    await asyncio.gather(phone.until("stream_start"), laptop.until("stream_start"))
    await phone.send("cancel", id="nothing-of-mine")
    assert (await phone.until("accepted"))["jobs"] == []
    await laptop.send("cancel", id="mine")
    await asyncio.gather(phone.until("stream_end"), laptop.until("stream_end"))
    assert phone.seen == laptop.seen, "the devices saw different things"
    assert [frame["position"] for frame in phone.seen] == [*range(1, len(phone.seen) + 1)]


async def _come_back(phone: Device, thread_id: str) -> None:
    await phone.open(thread_id, by_ticket=True)
    await phone.until("stream_end")


def _by(agent: str | None) -> dict[str, str]:
    return {"agent": agent} if agent else {}


async def run(arguments: argparse.Namespace, tell: Tell) -> None:
    url, token = arguments.url.rstrip("/"), arguments.token
    other = (arguments.other or url).rstrip("/")
    async with (
        Device("phone", url, token, tell, page=arguments.origin) as phone,
        Device("laptop", other, token, tell, page=None) as laptop,
    ):
        await converse(phone, laptop, quick=arguments.quick, slow=arguments.slow)
        tell(f"both saw the same {len(phone.seen)} events, each once and in order")


def parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A conversation on two devices.")
    parser.add_argument("url", help="a gateway")
    parser.add_argument("token")
    parser.add_argument("--other", help="the laptop's gateway, if it has one of its own")
    parser.add_argument("--origin", help="the phone's page")
    parser.add_argument("--quick", help="the agent that answers")
    parser.add_argument("--slow", help="the agent whose answer is cut, and cancelled")
    return parser.parse_args(argv)


def main() -> int:
    asyncio.run(run(parsed(sys.argv[1:]), lambda line: sys.stdout.write(f"{line}\n")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
