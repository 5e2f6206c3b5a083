"""Users who ask, follow the answers over any gateway, and are not discouraged; all of it recorded.

A viewer whose connection ends otherwise than by `done` comes back after a jittered pause, to the
next gateway, behind the last event it has. It keeps what it is given, right or wrong: judging is
the oracle's.

Failures: a viewer gives up after FOLLOW_SECONDS_MAX without an event; the oracle tells of it. For
the requests see there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import aiohttp

from tests.faults.history import History
from tests.faults.requests import Reply, Requests, decoded, refusal_of, retry_after_of
from tests.support.gateway_client import Event, parse_sse

FOLLOW_SECONDS_MAX = 60.0
EVENTS_MID_STREAM = 5
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Job:
    """An accepted question."""

    job_id: str
    thread_id: str
    message_id: str
    user: str


@dataclass
class Viewer:
    """Somebody who watches one job."""

    name: str
    job: Job
    events: list[Event] = field(default_factory=list[Event])
    connections: int = 0
    refused: bool = False  # for good: the job is not known
    in_doubt: bool = False  # what it was given may hold no more: its next connection begins anew

    patience: asyncio.Timeout | None = None

    def take(self, event: Event) -> None:
        self.events.append(event)
        if self.patience is not None:
            self.patience.reschedule(asyncio.get_running_loop().time() + FOLLOW_SECONDS_MAX)

    @property
    def after(self) -> int:
        return self.events[-1]["seq"] if self.events else 0

    @property
    def attempt(self) -> int:
        return self.events[-1]["attempt"] if self.events else 0

    @property
    def is_done(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] == "done"


class Workload(Requests):
    """The users of one test; `user` is the one who asks when nobody else is named."""

    def __init__(
        self,
        history: History,
        urls: Sequence[str],
        token: Callable[[str], str],
        random: random.Random,
    ) -> None:
        super().__init__(history, urls, token, random)
        self.users = {self.user}
        self.jobs: list[Job] = []
        self.viewers: list[Viewer] = []
        self._following: set[asyncio.Task[None]] = set()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        await super().__aexit__(kind, error, trace)

    async def ask(self, query: str, *, user: str = "", key: str = "", **more: Any) -> Job:
        """Ask until it is accepted. `more` are further fields: `agent`, `thread_id` …"""
        user, key = user or self.user, key or f"key-{self.random.getrandbits(64):016x}"
        self.users.add(user)
        reply = await self.insist("POST", "/v1/jobs", {"query": query, **more}, user=user, key=key)
        answer = reply.body
        job = Job(answer["job_id"], answer["thread_id"], answer["message_id"], user)
        self.jobs.append(job)
        return job

    async def stream(self, jobs: int = 6, *, agent: str = "slow", viewers: int = 1) -> list[Job]:
        """Ask that many questions, watch all, and return when every viewer is in mid-stream."""
        numbers = range(len(self.jobs), len(self.jobs) + jobs)
        asking = (self.ask(f"question {number}", agent=agent) for number in numbers)
        asked = await asyncio.gather(*asking)
        watching = [self.watch(job) for job in asked for _ in range(viewers)]
        await self.until(
            lambda: all(len(one.events) >= EVENTS_MID_STREAM for one in watching), "the streams"
        )
        return asked

    def watch(self, job: Job) -> Viewer:
        """Follow a job in the background, to its `done`."""
        viewer = Viewer(f"viewer-{len(self.viewers) + 1}", job)
        self.viewers.append(viewer)
        task = asyncio.create_task(self._follow(viewer))
        self._following.add(task)
        return viewer

    async def cancel(self, job: Job) -> Reply:
        """Cancel it; sent until somebody has answered."""
        return await self.insist("POST", f"/v1/jobs/{job.job_id}/cancel", user=job.user)

    async def finished(self) -> None:
        """Wait until every viewer has its `done`, or has given up."""
        await asyncio.gather(*self._following)

    async def until(
        self, condition: Callable[[], bool], what: str, seconds_max: float = 20.0
    ) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + seconds_max
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            await asyncio.sleep(POLL_SECONDS)

    async def _follow(self, viewer: Viewer) -> None:
        try:
            async with asyncio.timeout(FOLLOW_SECONDS_MAX) as viewer.patience:
                while not (viewer.is_done or viewer.refused):
                    viewer.connections += 1
                    await self._connection(viewer)
                    if viewer.in_doubt:
                        self.forget(viewer)
        except TimeoutError:
            place = {"viewer": viewer.name, "connection": viewer.connections}
            self.history.add("cut", why="gave up", **place)

    async def _connection(self, viewer: Viewer) -> None:
        place = {"viewer": viewer.name, "connection": viewer.connections}
        try:
            why = await self._listen(viewer, place)
        except (aiohttp.ClientError, ConnectionError) as error:
            why = repr(error)
        self.history.add("cut", why=why, **place)
        if not viewer.is_done:
            await self.pause(None)

    async def _listen(self, viewer: Viewer, place: dict[str, Any]) -> str:
        """Take what one connection gives; answers how it ended."""
        base, after = self.next_url(), viewer.after
        path = f"/v1/jobs/{viewer.job.job_id}/events"
        headers = self.headers_of(viewer.job.user)
        headers |= {"Last-Event-ID": str(after)} if after else {}
        facts = {"job_id": viewer.job.job_id, "gateway": base, "after": after}
        self.history.add("connect", **place, **facts)
        async with self.session.get(base + path, headers=headers) as response:
            if response.status != 200:
                return await self._refused(viewer, response, base, path)
            async with aclosing(parse_sse(response.content)) as events:
                async for event in events:
                    if event["type"] == "reconnect":
                        return "reconnect"
                    event.pop("id")
                    viewer.take(event)
                    self.history.add("event", event=event, **place)
        return "done" if viewer.is_done else "the body ended"

    async def _refused(
        self, viewer: Viewer, response: aiohttp.ClientResponse, base: str, path: str
    ) -> str:
        reply = Reply(response.status, decoded(await response.read()), retry_after_of(response))
        facts = {"method": "GET", "path": path, "gateway": base, "status": reply.status}
        refusal = refusal_of(reply)
        self.history.add("request", user="", **facts, **refusal)
        viewer.refused = reply.status == 404
        if refusal["code"] == "cursor_ahead":
            self.forget(viewer)
        return f"status {reply.status}"

    def forget(self, viewer: Viewer) -> None:
        """What the viewer was given holds no more: it begins again in front."""
        self.history.add("restart", viewer=viewer.name, connection=viewer.connections)
        viewer.events.clear()
        viewer.in_doubt = False

    def doubt(self) -> None:
        """Redis may have lost what was streamed: other events will have the same seqs, and a cursor
        does not tell them apart. Who is not done yet reads from the beginning once more."""
        for viewer in self.viewers:
            viewer.in_doubt = not viewer.is_done

    def begin_again(self, viewer: Viewer) -> None:
        """Let a viewer that was given the end follow its job once more."""
        self.forget(viewer)
        self._following.add(asyncio.create_task(self._follow(viewer)))
