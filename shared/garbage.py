"""Python's garbage collector, for processes that make much and keep little."""

from __future__ import annotations

import gc
from typing import Final

CONTAINERS_PER_COLLECTION: Final = 20_000  # the entries of several batches


def collect_rarely() -> None:
    """Spare the collector what stays (modules, whatever is there by now) and what goes by itself.

    Belongs behind the assembly of a process. A look at everything stops the event loop for as long:
    without this it is what keeps the slowest tokens of hundreds of streams (docs/decisions/0031).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(CONTAINERS_PER_COLLECTION)
