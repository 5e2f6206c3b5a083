"""Issuers that hang, drip, flood, send one elsewhere, talk nonsense or are gone."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from services.api import key_fetching
from shared.settings import Settings
from tests.integration.api.gateways import Running, token_for
from tests.integration.api.trusting import AWAY, answer, gateway_of, rested, trusting
from tests.integration.api.waiting import eventually, soon
from tests.support.issuer import Answer, IssuerKey, key_set, running_issuer

RSA, NEXT = IssuerKey.new("RS256", "RS256"), IssuerKey.new("ES256", "next")
SHORT_REST_SECONDS = 0.3


async def test_an_issuer_that_hangs_is_given_up_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_fetching, "FETCH_SECONDS_MAX", 0.5)
    async with running_issuer(RSA) as issuer:
        issuer.open.clear()
        async with gateway_of(settings, issuer) as gateway:
            assert await soon(answer(gateway, RSA.token("alice"))) == AWAY


async def drip(request: web.Request) -> web.StreamResponse:
    """A body that never ends and never pauses for long."""
    response = web.StreamResponse()
    await response.prepare(request)
    with pytest.raises((ConnectionError, asyncio.CancelledError)):  # noqa: PT012 -- the client leaves
        while True:
            await response.write(b" " * 100)
            await asyncio.sleep(0.01)
    return response


async def flood(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b" " * (key_fetching.SET_BYTES_MAX + 1) + key_set(NEXT))


async def redirect(request: web.Request) -> web.StreamResponse:
    if request.path == "/keys":
        return web.Response(status=302, headers={"Location": "/elsewhere"})
    return web.Response(body=key_set(NEXT))


async def failure(request: web.Request) -> web.StreamResponse:
    return web.Response(status=500, body=key_set(NEXT))


async def nonsense(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"<html>Down for maintenance</html>")


async def emptiness(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b'{"keys": []}')


@pytest.mark.parametrize("misbehave", [drip, flood, redirect, failure, nonsense, emptiness, None])
async def test_known_keys_outlive_their_issuer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, misbehave: Answer | None
) -> None:
    """Whatever it says, or when it is gone (None); and it is heard again when it is back."""
    monkeypatch.setattr(key_fetching, "REST_SECONDS", SHORT_REST_SECONDS)
    monkeypatch.setattr(key_fetching, "FETCH_SECONDS_MAX", 0.5)
    async with trusting(settings, RSA) as (gateway, issuer):
        keys = gateway.gateway.keys
        if misbehave is None:
            monkeypatch.setattr(keys, "_url", "http://127.0.0.1:1/nobody")
        issuer.answer = misbehave
        await rested(gateway)
        for _ in range(3):
            assert await answer(gateway, RSA.token("alice")) == (200, "")
            assert await answer(gateway, NEXT.token("alice")) == AWAY
        issuer.answer, issuer.body = None, key_set(RSA, NEXT)
        monkeypatch.setattr(keys, "_url", issuer.url)
        await eventually(lambda: _is_in(gateway, NEXT))


async def _is_in(gateway: Running, key: IssuerKey) -> bool:
    return await answer(gateway, key.token("alice")) == (200, "")


async def test_a_gateway_without_keys_is_not_ready_and_says_why(settings: Settings) -> None:
    async with running_issuer(RSA) as issuer:
        issuer.answer = failure
        async with gateway_of(settings, issuer, secret=True) as gateway:
            assert await answer(gateway, RSA.token("alice")) == AWAY
            assert await answer(gateway, token_for("alice")) == (200, "")
            async with gateway.client(None) as anybody:
                response = await anybody.get("/readyz")
            assert (response.status_code, response.json()["problems"]) == (503, ["keys"])


async def test_the_gateway_ends_when_its_keys_task_does(settings: Settings) -> None:
    async with trusting(settings, RSA) as (gateway, _):
        assert gateway.gateway.keys is not None
        gateway.gateway.keys.tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(gateway.service.failed())
