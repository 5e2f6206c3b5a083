"""Connections to one server of a cluster, all of which can be called into question at once.

``renew`` lets whoever has a connection finish with it. A connection that was made before is made
again by the next one who takes it, so nobody ever touches one that is in another's hands.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import BlockingConnectionPool


class RenewedPool(BlockingConnectionPool):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType]
        self._generation = 0
        self._retired = False
        self._made: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # in which generation

    def renew(self) -> None:
        """Trust no connection that there is now."""
        self._generation += 1

    async def retire(self) -> None:
        """Close what is idle now, and the rest when it is given back."""
        self.renew()
        self._retired = True
        await self.disconnect(inuse_connections=False)

    async def ensure_connection(self, connection: Any) -> None:
        while self._made.get(connection) != self._generation:
            generation = self._generation
            await connection.disconnect()
            await connection.connect()
            self._made[connection] = generation
        await super().ensure_connection(connection)

    async def release(self, connection: Any) -> None:
        if self._retired:
            await connection.disconnect()
        await super().release(connection)
