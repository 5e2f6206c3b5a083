"""Whoever writes to a connection is told once that it is lost, whenever that was."""

from __future__ import annotations

from services.api.event_response import Farewell


def test_it_is_told_to_who_writes_now() -> None:
    farewell, told = Farewell(), list[str]()
    with farewell.telling(lambda: told.append("first")):
        pass
    with farewell.telling(lambda: told.append("second")):
        farewell.say()
    assert told == ["second"]


def test_it_is_told_to_who_comes_too_late() -> None:
    farewell, told = Farewell(), list[str]()
    farewell.say()
    with farewell.telling(lambda: told.append("gone")):
        assert told == ["gone"]
