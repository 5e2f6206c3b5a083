"""Nothing was found: because there is nothing, or because Redis has forgotten it for the moment.

A thing that was accepted a moment ago may be known to Redis alone. If Redis then loses it, a
persister may still bring it into the archive, and a worker offer it again. Until the partition is
open again, and has been for a while, nobody can say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.errors import LogUnavailable, NotFound
from shared.hot_state import HotState

Thing = TypeVar("Thing")


async def present(
    hot: HotState, partition: int, look: Callable[[], Awaitable[Thing | None]]
) -> Thing:
    """What the look finds. Raises NotFound; LogUnavailable while that is not certain."""
    found = await look()
    if found is None:
        certain = await hot.is_verified(partition)
        found = await look()  # it may have come back before the partition was opened
        if found is None and not certain:
            raise LogUnavailable("Redis has lost something that is being put back.")
    if found is None:
        raise NotFound()
    return found
