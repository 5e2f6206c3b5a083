"""Gateways that trust an issuer, and what they say to a token."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from shared.settings import Settings
from tests.integration.api.gateways import Running, problem_of, running_gateway
from tests.integration.api.waiting import eventually
from tests.support.issuer import Issuer, IssuerKey, running_issuer

AWAY = (503, "keys_unavailable")
REFUSED = (401, "unauthorized")


@asynccontextmanager
async def gateway_of(
    settings: Settings, issuer: Issuer, *, secret: bool = False
) -> AsyncGenerator[Running]:
    """A gateway that trusts the issuer and, if asked to, the shared secret as well."""
    changes = {"auth_jwks_url": issuer.url, **({} if secret else {"auth_secret": None})}
    async with running_gateway(settings.model_copy(update=changes)) as running:
        yield running


@asynccontextmanager
async def trusting(
    settings: Settings, *keys: IssuerKey, secret: bool = False
) -> AsyncGenerator[tuple[Running, Issuer]]:
    """A gateway that has fetched the issuer's keys."""
    async with running_issuer(*keys) as issuer, gateway_of(settings, issuer, secret=secret) as it:
        await eventually(lambda: it.gateway.keys is not None and it.gateway.keys.has_any)
        yield it, issuer


async def rested(gateway: Running) -> None:
    """A key that is not known is fetched at once from here on."""
    keys = gateway.gateway.keys
    await eventually(lambda: keys is not None and not keys._is_resting)


async def answer(gateway: Running, token: str) -> tuple[int, str]:
    """Status and code: (200, "") when the token is good."""
    async with gateway.client(None) as anybody:
        headers = {"Authorization": f"Bearer {token}"}
        response = await anybody.get("/v1/agents", headers=headers)
    return (200, "") if response.is_success else problem_of(response)
