"""Waiting for something to become true, with a deadline."""

import time
from collections.abc import Callable

WAIT_SECONDS_MAX = 20.0


def until(holds: Callable[[], bool], seconds_max: float = WAIT_SECONDS_MAX) -> None:
    """Return as soon as `holds()`; fail when it still does not after `seconds_max`."""
    deadline = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds_max:g} s"
        time.sleep(0.02)
