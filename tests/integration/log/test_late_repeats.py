"""A call whose reply was lost is sent again late: others have written in between."""

from __future__ import annotations

from shared.events import ThreadUpdated
from shared.redis_scripts import run
from tests.integration.log.conftest import Calls
from tests.support.log_server import AT, LogServer, token


async def test_a_change_does_not_win_over_a_later_one(server: LogServer, calls: Calls) -> None:
    thread = await server.thread()
    for title in ("one", "two"):
        event = ThreadUpdated(thread_id=thread, at=AT, title=title)
        await server.threads.change_thread("alice", event)
    assert await run(server.redis, calls[1]) == [b"CHANGED"]
    found = await server.hot.thread(thread)
    assert found is not None
    assert (found.title, found.position) == ("two", 3)


async def test_a_begin_is_lost_once_another_worker_owns_the_job(
    server: LogServer, calls: Calls
) -> None:
    """Although the attempt is still the one it began: the other came at the attempt limit."""
    delivery, _ = await server.running()
    begin = calls[-1]
    taken = await server.take_over(delivery, attempts_max=1)
    assert taken.lease is not None
    assert await run(server.redis, begin) == [b"LOST"]
    assert await server.append(taken.lease, token(taken.lease, 2)) == "OK"


async def test_an_accept_after_the_end_of_its_job_posts_nothing(
    server: LogServer, calls: Calls
) -> None:
    _, lease = await server.running()
    accept = calls[1]
    await server.finish(lease, 2)
    before = await server.records(lease.thread_id)
    assert (await run(server.redis, accept))[:2] == [b"ACCEPTED", lease.job_id.encode()]
    assert await server.records(lease.thread_id) == before


async def test_a_cancel_after_the_end_of_its_job_changes_nothing(
    server: LogServer, calls: Calls
) -> None:
    _, lease = await server.running()
    await server.log.request_cancel(lease.job_id, lease.thread_id)
    cancel = calls[-1]
    await server.finish(lease, 2, "cancelled")
    before = await server.records(lease.thread_id)
    assert await run(server.redis, cancel) == b"cancelled"
    assert await server.records(lease.thread_id) == before


async def test_a_release_does_not_release_the_next_owner(server: LogServer, calls: Calls) -> None:
    delivery, lease = await server.running()
    assert await server.log.release_lease(lease, "w1")
    release = calls[-1]
    begun = await server.take_over(delivery)
    assert begun.lease is not None
    assert await run(server.redis, release) == 0
    assert await server.append(begun.lease, token(begun.lease, 3)) == "OK"
