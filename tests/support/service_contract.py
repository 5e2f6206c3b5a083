"""What every `Service` promises about its stop, to be checked on each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shared.lifecycle import Service

STOP_SECONDS_MAX = 10.0


async def check_stop_contract(make: Callable[[], Service]) -> None:
    """Stop before start, stop twice, and stop behind a drain that was cut short are harmless."""
    async with asyncio.timeout(STOP_SECONDS_MAX):
        await make().stop()
        service = make()
        await service.start()
        draining = asyncio.ensure_future(service.drain())
        await asyncio.sleep(0)
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await service.stop()
        await service.stop()
