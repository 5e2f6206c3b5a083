"""How deep the suite goes: most rows beside all other tests, all in `make faults`, more with
`--long`."""

from __future__ import annotations

from typing import Any

import pytest

MARKS = {"thorough": "asked for with --thorough, as make faults does", "long": "asked for: --long"}


def thorough(value: Any) -> Any:
    """A parameter for thorough runs."""
    return pytest.param(value, marks=pytest.mark.thorough)


def left_out(item: pytest.Item, *, thorough: bool, long: bool) -> str:
    """Why the test does not run, or nothing."""
    asked = {"thorough": thorough or long, "long": long}
    return next(
        (MARKS[one] for one in MARKS if item.get_closest_marker(one) and not asked[one]), ""
    )
