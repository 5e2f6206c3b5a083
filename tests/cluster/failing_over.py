"""What a failover may have cost: a replica follows what was acknowledged, a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from shared.hot_state import HotState, Job
from shared.redis_client import connect
from tests.faults.arena import Row
from tests.faults.lost_tail import archived
from tests.faults.oracle import FINAL
from tests.faults.stores import PARTITIONS
from tests.faults.workload import Viewer

BEGIN_AGAIN = "cursor_ahead"  # what a viewer is told whose cursor was lost


@asynccontextmanager
async def possible_loss(row: Row, name: str) -> AsyncGenerator[None]:
    """In the block a primary is lost, and its replica takes over.

    What nobody knows afterwards is told to the oracle as lost. Who was given an answer meanwhile
    reads it again: it may have begun with one and ended with the other.
    """
    row.expect(codes=[BEGIN_AGAIN])
    over = [viewer for viewer in row.users.viewers if viewer.is_done]
    async with row.faults.lasting(name):
        yield
    async with connect(row.cluster.redis_url) as redis:
        hot = HotState(redis, PARTITIONS)
        held = {job.job_id: await hot.job(job.job_id) for job in row.users.jobs}
    known = await asyncio.to_thread(archived, row.cluster, row.users.users)
    ids = known.keys() | {job_id for job_id, job in held.items() if job}
    forgotten = {job.job_id for job in row.users.jobs} - ids
    row.history.add("loss", bytes=0, forgotten=sorted(forgotten), known=sorted(ids))
    row.users.doubt()
    for viewer in row.users.viewers:
        was_over = viewer in over and _still_ends(viewer, held.get(viewer.job.job_id), known)
        if viewer.is_done and not was_over:
            row.users.begin_again(viewer)


def _still_ends(viewer: Viewer, held: Job | None, known: dict[str, str]) -> bool:
    """Whether the end that a viewer was given is still the job's."""
    if held is None:
        return known.get(viewer.job.job_id) in FINAL
    return held.is_over and held.last_seq == viewer.after
