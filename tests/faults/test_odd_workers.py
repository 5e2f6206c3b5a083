"""A worker that stands still inside, one of the next version, and clocks that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import jwt
import pytest

from infra.local.cluster import LocalCluster
from tests.faults.arena import Arena, Row
from tests.faults.clocks import HOUR, jumped
from tests.faults.conftest import LEASE_SECONDS
from tests.faults.odd_cluster import OddCluster
from tests.faults.oddities import BLOCKED_SECONDS

MACHINE_SECONDS = 1.5  # two cores, shared with whatever else runs
AHEAD, BEHIND = 0, 1  # the gateways whose clocks are wrong
OF_NEXT_VERSION = ({"type": "thought", "v": 1}, {"type": "metadata", "v": 2, "colour": "green"})

Token = Callable[[str], str]


def token_of(cluster: LocalCluster, *, issued: float, expires: float) -> Token:
    """Makes tokens; their times are in hours from now."""
    now = datetime.now(UTC)

    def token(user: str) -> str:
        times = {"iat": now + timedelta(hours=issued), "exp": now + timedelta(hours=expires)}
        claims = {"sub": user, **times}
        return jwt.encode(claims, cluster.secret, algorithm="HS256")  # pyright: ignore[reportUnknownMemberType]

    return token


@pytest.mark.thorough
async def test_row_21_a_blocked_event_loop(odd_arena: Arena) -> None:
    async with odd_arena.row("21 event loop blocked for several leases") as row:
        await row.users.stream(6, agent="steady-long")
        row.users.watch(await row.users.ask("block", agent="blocking"))
        for number in range(4):
            row.users.watch(await row.users.ask(f"meanwhile {number}", agent="quick"))
    assert row.figures.attempts_max == 1
    pause = row.figures.longest_pause_seconds
    assert BLOCKED_SECONDS - LEASE_SECONDS < pause < BLOCKED_SECONDS + MACHINE_SECONDS


async def test_row_23_events_of_the_next_version(odd_arena: Arena) -> None:
    async with odd_arena.row("23 events of the next version") as row:
        await row.users.stream(4, agent="newer")
    assert row.figures.attempts_max == 1
    for viewer in row.users.viewers[:4]:
        newer = viewer.events[1:3]
        assert [one | fact for one, fact in zip(newer, OF_NEXT_VERSION, strict=True)] == newer
        assert viewer.events[-1]["status"] == "done"


async def _statuses(row: Row, token: Token) -> tuple[int | None, ...]:
    """What each gateway answers to this token."""
    usual, row.users.token = row.users.token, token
    ask = partial(row.users.send, "GET", "/v1/threads", recorded=False)
    replies = [await ask(gateway=gateway) for gateway in (AHEAD, BEHIND)]
    row.users.token = usual
    return tuple(reply.status for reply in replies)


async def test_row_19_clocks_of_services(odd_arena: Arena, odd: OddCluster) -> None:
    """Each gateway believes its own clock, and so a token is good when that clock says so."""
    cluster = odd_arena.cluster
    async with odd_arena.row("19 clocks of services jump by an hour") as row:
        row.users.token = token_of(cluster, issued=-2, expires=24)
        ahead = {"api_1": HOUR, "orchestrator_1": HOUR, "persister_1": HOUR}
        behind = {"api_2": -HOUR, "orchestrator_2": -HOUR, "persister_2": -HOUR}
        await row.users.stream(6)
        with jumped(odd.clocks, row.history, **ahead, **behind):
            await row.users.stream(4)
            fresh = await _statuses(row, token_of(cluster, issued=0, expires=24))
            soon_over = await _statuses(row, token_of(cluster, issued=-2, expires=0.5))
            just_over = await _statuses(row, token_of(cluster, issued=-3, expires=-0.5))
            long_over = await _statuses(row, token_of(cluster, issued=-9, expires=-1.5))
            await row.users.finished()
    assert row.figures.attempts_max == 1
    assert (fresh[AHEAD], soon_over, just_over, long_over) == (
        *(200, (401, 200), (401, 200)),
        (401, 401),
    )


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_row_19_clock_of_redis(odd_arena: Arena, odd: OddCluster, seconds: float) -> None:
    if not odd.valkey_has_a_clock:
        pytest.skip("libfaketime is not installed")
    async with odd_arena.row(f"19 clock of Redis jumps by {seconds:+g} s") as row:
        await row.users.stream(6)
        with jumped(odd.clocks, row.history, valkey=seconds):
            await row.users.stream(2)
            await row.users.finished()
    assert row.figures.attempts_max <= 2
