"""All faults together, by seed."""

from __future__ import annotations

import pytest

from tests.faults.arena import Arena
from tests.faults.storm import Storm

SETTLING_SECONDS_MAX = 300


@pytest.mark.timeout(3600)
async def test_row_24_the_storm(arena: Arena) -> None:
    seconds = arena.options.storm_seconds
    async with arena.row(f"24 storm of {seconds:g} s, seed {arena.options.seed}") as row:
        storm = Storm(row)
        await storm.rage(seconds)
        row.history.add("storm", counts=storm.counts)
    print(f"storm: {storm.counts}")  # noqa: T201
