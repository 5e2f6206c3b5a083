"""What everybody says once the faults are over: gateways, stores, logs, machine; into the history.

`quiet` waits until nothing is pending, `tail` asks the last questions, `everything` then reads what
is, and waits for nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from typing import Any

import psycopg

from infra.local.cluster import LocalCluster
from shared.continuity import RECALL_SECONDS
from shared.ids import new_thread_id, partition_of_thread
from shared.redis_client import connect
from tests.faults import stores
from tests.faults.history import History
from tests.faults.logs import Logs
from tests.faults.oracle import QUIET_SECONDS_MAX, TAIL
from tests.faults.requests import NotAccepted, Refused, Reply
from tests.faults.workload import Job, Workload

POLL_SECONDS = 0.1
REBUILD_SECONDS_MAX = 60.0
PAGE_EVENTS_MAX = 1000
STRANGER = "stranger"


class Collector:
    """Of one test; `random` chooses from where a stream is read again."""

    def __init__(
        self, cluster: LocalCluster, workload: Workload, logs: Logs, random: random.Random
    ) -> None:
        self._cluster = cluster
        self._workload = workload
        self._logs = logs
        self._random = random

    @property
    def _history(self) -> History:
        return self._workload.history

    async def quiet(self) -> None:
        """Record how long it took until nothing was pending, or what still was."""
        began = time.monotonic()
        async with connect(self._cluster.redis_url) as redis:
            while True:
                groups = await stores.group_states(redis)
                busy = [one for one in groups if one["pending"] or one["unread"]]
                seconds = time.monotonic() - began
                if not busy or seconds > QUIET_SECONDS_MAX:
                    self._history.add("quiet", groups=groups, seconds=round(seconds, 2))
                    return
                await asyncio.sleep(POLL_SECONDS)

    async def tail(self) -> None:
        """The last requests: each must go through, on whichever gateway."""
        for number in range(TAIL):
            try:
                job = await self._workload.ask(f"last question {number}", agent="quick")
                viewer = self._workload.watch(job)
                await self._workload.until(lambda v=viewer: v.is_done, f"the end of {job.job_id}")
                status = viewer.events[-1]["status"]
            except (NotAccepted, Refused, AssertionError) as error:
                status = repr(error)
            self._history.add("tail", status=status)

    async def everything(self) -> None:
        """All that the oracle holds against each other."""
        url = self._cluster.database_url
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as postgres:
            threads = stores.owned(postgres, self._workload.users, self._history)
            threads |= {job.thread_id for job in self._workload.jobs}
            stores.archived_threads(postgres, sorted(threads), self._history)
            stores.answers(postgres, [job.job_id for job in self._workload.jobs], self._history)
        async with connect(self._cluster.redis_url) as redis:
            await stores.redis_threads(redis, sorted(threads), self._history)
            await stores.dead_jobs(redis, self._history)
        for job in self._workload.jobs:
            reply = await self._certain(job)
            self._history.add("job", job_id=job.job_id, status=reply.status, body=reply.body)
            if reply.status == 200:
                await self._suffixes(job.job_id, job.user, reply.body.get("last_seq") or 0)
        await self._foreign()
        await self._rebuild()
        self._machine()

    async def _certain(self, job: Job) -> Reply:
        """What a gateway says of a job, once it is sure: after a loss it is not, for a while."""
        deadline = time.monotonic() + RECALL_SECONDS + QUIET_SECONDS_MAX
        while True:
            reply = await self._workload.send("GET", f"/v1/jobs/{job.job_id}", user=job.user)
            if reply.status != 503 or time.monotonic() > deadline:
                return reply
            await asyncio.sleep(POLL_SECONDS)

    async def _suffixes(self, job_id: str, user: str, last_seq: int) -> None:
        """Read it again from somewhere, as pages and as a stream, on different gateways."""
        for gateway in range(len(self._workload.urls)):
            after = self._random.randrange(max(last_seq, 1))
            facts = {"job_id": job_id, "gateway": gateway, "after": after}
            events = await self._pages(job_id, user, after, gateway)
            self._history.add("suffix", via="json", events=events, **facts)
        after = self._random.randrange(max(last_seq, 1))
        events = await self._workload.read(job_id, user, after)
        self._history.add("suffix", job_id=job_id, via="sse", after=after, events=events)

    async def _pages(self, job_id: str, user: str, after: int, gateway: int) -> list[Any]:
        events: list[Any] = []
        cursor: Any = after
        while cursor is not None:
            path = f"/v1/jobs/{job_id}/events?format=json&after={cursor}&limit={PAGE_EVENTS_MAX}"
            reply = await self._workload.send("GET", path, user=user, gateway=gateway)
            if reply.status != 200 or not reply.body["items"]:
                break
            events += reply.body["items"]
            cursor = reply.body["next_cursor"]
        return events

    async def _foreign(self) -> None:
        """One job and its thread, asked for by somebody who must not know of them; and what is not
        there, in the same partition: each is in doubt, or is not, by itself."""
        job = self._random.choice(self._workload.jobs)
        nobodys = _thread_beside(job.thread_id)
        for method, path, named, missing in (
            ("GET", "/v1/jobs/{}", job.job_id, _job_beside(job.job_id)),
            ("GET", "/v1/jobs/{}/events?format=json", job.job_id, _job_beside(job.job_id)),
            ("POST", "/v1/jobs/{}/cancel", job.job_id, _job_beside(job.job_id)),
            ("GET", "/v1/threads/{}", job.thread_id, nobodys),
            ("GET", "/v1/threads/{}/messages", job.thread_id, nobodys),
        ):
            none = await self._as_stranger(method, path.format(missing))
            got = await self._as_stranger(method, path.format(named))
            if got != none:  # a doubt may have ended in between
                none = await self._as_stranger(method, path.format(missing))
            facts = {"status": got.status, "body": json.dumps(got.body)}
            facts |= {"missing_status": none.status, "missing_body": json.dumps(none.body)}
            self._history.add("foreign", path=path.format(named), **facts)

    async def _as_stranger(self, method: str, path: str) -> Reply:
        return await self._workload.send(method, path, user=STRANGER, recorded=False)

    async def _rebuild(self) -> None:
        """Make the read model again in the whole database, and compare."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.persister.rebuild"),
            env={**os.environ, **self._cluster.env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(REBUILD_SECONDS_MAX):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = output.decode(errors="replace")
        self._history.add("rebuild", exit_code=process.returncode, output=text[-2000:])

    def _machine(self) -> None:
        for service, text in self._logs.tracebacks():
            self._history.add("traceback", service=service, text=text)
        for service in self._logs.paths:
            size = stores.resident_bytes(self._cluster.pid(service))
            self._history.add("memory", service=service, bytes=size)


def _job_beside(job_id: str) -> str:
    """The id of no job; its partition is the other's."""
    return job_id[:6] + job_id[6:].translate(str.maketrans("0123456789", "1234567890"))


def _thread_beside(thread_id: str) -> str:
    partition = partition_of_thread(thread_id, stores.PARTITIONS)
    while partition_of_thread(found := new_thread_id(), stores.PARTITIONS) != partition:
        pass
    return found
