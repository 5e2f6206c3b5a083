"""What a test may do to a service before it starts: remove one mechanism, or skew its clock.

Each patch is a function of no arguments that changes classes or modules of the service in its own
process. Production code has no switch for any of it.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.afflicted import AFFLICTIONS
from tests.faults.removed import REMOVALS

Patch = Callable[[], None]


class _Patches(dict[str, Patch]):
    """By name. The oddities load a whole service, so only who asks for one pays for them."""

    def __missing__(self, name: str) -> Patch:
        from tests.faults.oddities import ODDITIES

        return ODDITIES[name]


PATCHES = _Patches({**AFFLICTIONS, **REMOVALS})
