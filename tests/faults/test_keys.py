"""An Idempotency-Key names one command, however often, wherever and by whomever it is sent."""

from __future__ import annotations

import asyncio

from tests.faults.arena import Arena
from tests.faults.requests import Reply
from tests.faults.workload import Job
from tests.support.proxy import Fault, Proxy

SENDERS = 16
QUESTION = {"query": "only once", "agent": "steady"}


async def test_row_14_one_key_many_times(arena: Arena) -> None:
    async with arena.row("14 one key many times") as row:
        row.expect(codes=["idempotency_mismatch"])
        users, key = row.users, f"key-{row.random.getrandbits(64):016x}"

        def ask(**more: str) -> asyncio.Future[Reply]:
            asking = users.insist("POST", "/v1/jobs", {**QUESTION, **more}, key=key)
            return asyncio.ensure_future(asking)

        replies = await asyncio.gather(*(ask() for _ in range(SENDERS)))
        bodies = [reply.body for reply in replies]
        job = _job(bodies[0], users.user)
        users.jobs.append(job)
        viewer = users.watch(job)
        await users.until(lambda: viewer.is_done, "the answer")
        later = await ask()
        other = await users.send("POST", "/v1/jobs", {**QUESTION, "query": "another"}, key=key)
        theirs = await users.ask(**QUESTION, user=f"other-{users.user}", key=key)
        users.watch(theirs)
    assert len({body["job_id"] for body in (*bodies, later.body)}) == 1
    assert (other.status, other.body["code"]) == (422, "idempotency_mismatch")
    assert theirs.job_id != job.job_id


async def test_row_14_gateway_dies_between_write_and_reply(arena: Arena) -> None:
    async with arena.row("14 gateway killed between write and reply") as row:
        urls = arena.cluster.urls
        async with Proxy("127.0.0.1", int(urls[0].rpartition(":")[2])) as proxy:
            row.users.urls = [proxy.url(urls[0]), urls[1]]
            proxy.on_reply(Fault.HOLE, to=b"POST /v1/jobs")
            asking = asyncio.create_task(row.users.ask(**QUESTION))
            await row.users.until(lambda: proxy.faults_met == 1, "the reply that is kept back")
            row.faults.kill("api-1")
            proxy.cut_all()
            row.users.watch(await asking)
            row.users.urls = urls
            await row.users.finished()
    assert len({job.job_id for job in row.users.jobs}) == row.figures.jobs


def _job(body: dict[str, str], user: str) -> Job:
    return Job(body["job_id"], body["thread_id"], body["message_id"], user)
