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
    hot: HotState,
    partition: int,
    look: Callable[[], Awaitable[Thing | None]],
    *,
    theirs: Callable[[Thing], bool],
) -> Thing:
    """What the look finds, if it is theirs. Raises NotFound; LogUnavailable while nobody can say.

    What is somebody else's is answered like what is not there, in doubt as well.
    """
    found = await look()
    if found is None or not theirs(found):
        certain = await hot.is_verified(partition)
        found = await look()  # it may have come back before the partition was opened
        if found is None or not theirs(found):
            if certain:
                raise NotFound()
            raise LogUnavailable("Redis has lost something that is being put back.")
    return found
