"""release_lease and begin_attempt: a hand-over ends an attempt, but does not use it up."""

from __future__ import annotations

from shared.event_log import HAND_OVERS_MAX, Lease
from tests.support.log_server import Delivery, LogServer, RepeatingRedis


async def handed_over(
    server: LogServer, delivery: Delivery, lease: Lease, *, times: int
) -> tuple[Delivery, Lease]:
    """The same job after so many hand-overs, each to another worker."""
    for _ in range(times):
        assert await server.log.release_lease(lease, delivery.consumer)
        claimed = await server.claim(delivery, "w2" if delivery.consumer == "w1" else "w1")
        assert claimed is not None
        begun = await server.begin(claimed, attempts_max=1)
        assert (begun.outcome, begun.lease is not None) == ("BEGUN", True)
        assert begun.lease is not None
        delivery, lease = claimed, begun.lease
    return delivery, lease


async def test_a_hand_over_uses_no_attempt_up(server: LogServer) -> None:
    delivery, lease = await server.running()
    delivery, lease = await handed_over(server, delivery, lease, times=3)
    assert (lease.attempt, lease.attempts_used) == (4, 1)
    assert (await server.begin(delivery, attempts_max=1)).outcome == "EXHAUSTED"
    assert (await server.begin(delivery, attempts_max=2)).outcome == "BEGUN"


async def test_hand_overs_beyond_their_maximum_use_attempts_up(server: LogServer) -> None:
    delivery, lease = await server.running()
    delivery, lease = await handed_over(server, delivery, lease, times=HAND_OVERS_MAX)
    assert (lease.attempt, lease.attempts_used) == (HAND_OVERS_MAX + 1, 1)
    assert await server.log.release_lease(lease, delivery.consumer)
    begun = await server.begin(delivery, attempts_max=1)
    assert begun.lease is not None
    assert (begun.outcome, begun.lease.attempts_used) == ("EXHAUSTED", 1)


async def test_a_release_sent_again_is_one_hand_over(
    server: LogServer, redis: RepeatingRedis
) -> None:
    delivery, lease = await server.running()
    redis.repeats = True
    await server.log.release_lease(lease, delivery.consumer)
    redis.repeats = False
    begun = await server.begin(delivery)
    assert begun.lease is not None
    assert (begun.lease.attempt, begun.lease.handovers) == (2, 1)


async def test_a_begin_sent_again_knows_of_the_hand_overs(
    server: LogServer, redis: RepeatingRedis
) -> None:
    delivery, lease = await server.running()
    await server.log.release_lease(lease, delivery.consumer)
    redis.repeats = True
    begun = await server.begin(delivery)
    assert begun.lease is not None
    assert (begun.lease.attempt, begun.lease.attempts_used) == (2, 1)
