"""How long a replay waits before each event."""

from __future__ import annotations

import pytest

from infra.console.pace import PAUSE_SECONDS_MAX, Pace


class Time:
    """A clock that moves when somebody sleeps, a little longer than asked for."""

    def __init__(self, late: float = 0.0) -> None:
        self.now, self._late = 1000.0, late
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds + self._late


def at(seconds: float) -> str:
    return f"2026-01-02T03:{int(seconds) // 60:02d}:{seconds % 60:06.3f}Z"


async def test_events_come_when_they_came() -> None:
    time = Time()
    pace = Pace(1, clock=time.clock, sleep=time.sleep)
    for moment in (0.0, 0.5, 0.5, 2.0):
        await pace.keep(at(moment))
    assert time.slept == pytest.approx([0.5, 1.5])


async def test_speed_divides_the_pauses() -> None:
    time = Time()
    pace = Pace(4, clock=time.clock, sleep=time.sleep)
    for moment in (0.0, 2.0):
        await pace.keep(at(moment))
    assert time.slept == pytest.approx([0.5])


async def test_being_late_does_not_add_up() -> None:
    time = Time(late=0.03)
    pace = Pace(1, clock=time.clock, sleep=time.sleep)
    for tenth in range(101):
        await pace.keep(at(tenth / 10))
    assert time.now - 1000 == pytest.approx(10, abs=0.05)


async def test_long_silence_is_cut() -> None:
    time = Time()
    pace = Pace(2, clock=time.clock, sleep=time.sleep)
    for moment in (0.0, 3000.0, 3001.0):
        await pace.keep(at(moment))
    assert time.slept == pytest.approx([PAUSE_SECONDS_MAX / 2, 0.5])


async def test_event_of_now_is_not_waited_for() -> None:
    time = Time()
    pace = Pace(1, clock=time.clock, sleep=time.sleep)
    await pace.keep(at(0.0))
    time.now += 60.0
    await pace.keep(at(1.0))
    assert not time.slept


async def test_clock_of_another_worker_may_be_behind() -> None:
    time = Time()
    pace = Pace(1, clock=time.clock, sleep=time.sleep)
    for moment in (5.0, 4.0, 5.0):
        await pace.keep(at(moment))
    assert time.slept == pytest.approx([1.0])
