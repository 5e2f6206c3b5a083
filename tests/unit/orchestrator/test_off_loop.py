"""What runs off the loop: whatever it raises reaches its caller."""

from __future__ import annotations

import asyncio

import pytest

from services.orchestrator.off_loop import OffLoop

WAIT_SECONDS_MAX = 10.0


@pytest.mark.parametrize(
    ("raised", "told"), [(ValueError("v"), ValueError), (StopIteration(), RuntimeError)]
)
async def test_what_is_raised_reaches_its_caller(raised: Exception, told: type[Exception]) -> None:
    def fail() -> None:
        raise raised

    async with asyncio.timeout(WAIT_SECONDS_MAX):
        with pytest.raises(told):
            await OffLoop().run(fail)
