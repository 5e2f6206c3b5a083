"""What a test may do to a service before it starts: remove one mechanism, or skew its clock.

Each patch is a function of no arguments that changes classes or modules of the service in its own
process. Production code has no switch for any of it.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.afflicted import AFFLICTIONS
from tests.faults.oddities import ODDITIES
from tests.faults.removed import REMOVALS

PATCHES: dict[str, Callable[[], None]] = {**AFFLICTIONS, **ODDITIES, **REMOVALS}
