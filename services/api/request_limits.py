"""How many requests a user and an address may make, and how far each of them is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from services.api.lenient import Lenient
from shared.quotas import Quotas

IPV6_PREFIX_BITS: Final = 64  # what one customer of a network gets: all of it is one address
UNKNOWN_ADDRESS: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a request leaves its user or address. Times are seconds."""

    policy: str
    quota: int
    allowed: bool
    left: int
    full_seconds: float
    retry_seconds: float


class RequestLimits:
    """Counts requests against limits per minute; 0 is no limit."""

    def __init__(
        self, quotas: Quotas, lenient: Lenient, *, per_user: int, per_address: int
    ) -> None:
        self._quotas, self._lenient = quotas, lenient
        self._per_user, self._per_address = per_user, per_address

    async def count(self, *, user: str | None, host: str | None) -> list[Standing]:
        """The standings after this request; of limits that are not set, or unknown, none."""
        of_user = (user, self._per_user) if user and self._per_user else None
        of_address = (address_of(host), self._per_address) if self._per_address else None
        if of_user is None and of_address is None:
            return []
        found = await self._lenient.ask(
            lambda: self._quotas.spend(user=of_user, address=of_address)
        )
        quotas = [("user", of_user), ("address", of_address)]
        limits = [(policy, limit[1]) for policy, limit in quotas if limit]
        return [
            Standing(policy, quota, s.allowed, s.left, s.full_seconds, s.retry_seconds)
            for (policy, quota), s in zip(limits, found or [], strict=False)
        ]


def retry_seconds(standings: Sequence[Standing]) -> int | None:
    """How long to wait when one of them is over its limit; None when none is."""
    over = [standing.retry_seconds for standing in standings if not standing.allowed]
    return math.ceil(max(over)) if over else None


def address_of(host: str | None) -> str:
    """Whom a host's requests are counted to; an IPv4 address in IPv6's clothes is the same."""
    try:
        address = ip_address((host or "").partition("%")[0])
    except ValueError:
        return UNKNOWN_ADDRESS
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((address, IPV6_PREFIX_BITS), strict=False))
    return str(address)
