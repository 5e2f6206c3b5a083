"""Whose turn it is: at once at leisure, two pieces together where much is said."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import pytest

from services.orchestrator import turns as turning
from services.orchestrator.job_writer import JobWriter
from services.orchestrator.turns import Turns

TURN_SECONDS_MAX = 2.0


@dataclass(eq=False)
class Writer:
    """As much of a JobWriter as a turn depends on."""

    is_urgent: bool = False
    may_wait: bool = True


def mark(turns: Turns, *writers: Writer) -> None:
    for writer in writers:
        turns.mark(cast("JobWriter", writer))


async def next_of(turns: Turns) -> Sequence[Writer]:
    async with asyncio.timeout(TURN_SECONDS_MAX):
        return cast("Sequence[Writer]", await turns.next())


async def is_quiet(turns: Turns, seconds: float) -> bool:
    """Whether nobody has a turn for so long."""
    try:
        async with asyncio.timeout(seconds):
            await turns.next()
    except TimeoutError:
        return True
    return False


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Turns:
    monkeypatch.setattr(turning, "BUSY_PIECES_PER_SECOND", 0)
    return Turns()


async def test_at_leisure_nobody_waits() -> None:
    turns, writer = Turns(), Writer()
    mark(turns, writer)
    assert await is_quiet(turns, 0) is False


async def test_a_busy_worker_lets_a_piece_wait_for_the_next_one(
    busy: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turning, "HOLD_SECONDS", 0.5)
    first, second = Writer(), Writer()
    mark(busy, first, second)
    assert await is_quiet(busy, 0.05)
    second.may_wait = False  # its next piece has come
    mark(busy, second)
    assert await next_of(busy) == [second]
    assert await next_of(busy) == [first]


async def test_what_is_held_is_written_even_if_nothing_follows(busy: Turns) -> None:
    writer = Writer()
    mark(busy, writer)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await next_of(busy) == [writer]
    assert loop.time() - began > turning.HOLD_SECONDS * 0.9


async def test_the_first_token_and_the_last_event_wait_for_nobody(
    busy: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turning, "HOLD_SECONDS", 60.0)
    monkeypatch.setattr(turning, "ROUND_SECONDS", 60.0)
    held, urgent = Writer(), Writer(is_urgent=True, may_wait=False)
    mark(busy, held, urgent)
    assert await next_of(busy) == [urgent]
    held.is_urgent = True  # it has ended
    mark(busy, held)
    assert await next_of(busy) == [held]


async def test_a_busy_worker_writes_in_rounds(busy: Turns) -> None:
    writers = [Writer(may_wait=False) for _ in range(5)]
    for writer in writers:
        mark(busy, writer)
        await asyncio.sleep(0)
    assert await next_of(busy) == writers


async def test_who_is_put_off_has_no_turn_until_then(busy: Turns) -> None:
    late, other = Writer(), Writer(is_urgent=True, may_wait=False)
    mark(busy, late)
    busy.put_off(cast("JobWriter", late), 0.5)
    mark(busy, late, other)
    assert await next_of(busy) == [other]
    assert await is_quiet(busy, 0.05)
    assert await next_of(busy) == [late]


async def test_it_is_as_busy_as_what_it_heard_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(turning, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(turning, "BUSY_PIECES_PER_SECOND", 4 / turning.LOOK_SECONDS)
    turns, writer = Turns(), Writer()
    mark(turns, *[writer] * 6)  # it looks at the first, and begins to count
    assert await next_of(turns) == [writer]
    now += turning.LOOK_SECONDS * 1.5
    mark(turns, writer)
    assert await is_quiet(turns, 0.05)
    now += turning.HOLD_SECONDS
    assert await next_of(turns) == [writer]
    now += turning.LOOK_SECONDS
    mark(turns, writer)
    assert await is_quiet(turns, 0) is False
