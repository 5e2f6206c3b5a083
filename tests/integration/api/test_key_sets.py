"""Tokens that an issuer signed: its keys are fetched, kept, and never taken for anything else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from services.api import key_fetching
from shared.settings import Settings
from tests.integration.api.gateways import problem_of, token_for
from tests.integration.api.trusting import REFUSED, answer, rested, trusting
from tests.integration.api.waiting import eventually, soon
from tests.support.issuer import IssuerKey, key_set

RSA, EC, ED = (IssuerKey.new(name, name) for name in ("RS256", "ES256", "EdDSA"))
NEXT = IssuerKey.new("ES256", "next")
SHORT_REST_SECONDS = 0.3


async def test_each_algorithm_comes_in_and_is_its_user(settings: Settings) -> None:
    async with trusting(settings, RSA, EC, ED) as (gateway, _):
        for key in (RSA, EC, ED):
            user = f"user of {key.name}"
            async with gateway.client(None) as client:
                client.headers["Authorization"] = f"Bearer {key.token(user)}"
                await client.ok("POST", "/v1/threads", json={"title": user})
                items = (await client.ok("GET", "/v1/threads"))["items"]
            assert [item["title"] for item in items] == [user]


async def test_secret_and_issuer_are_trusted_side_by_side(settings: Settings) -> None:
    async with trusting(settings, RSA, secret=True) as (gateway, _):
        for token in (token_for("alice"), RSA.token("alice")):
            assert await answer(gateway, token) == (200, "")
        assert await answer(gateway, RSA.token("alice", exp=int(time.time()) - 60)) == REFUSED
        assert await answer(gateway, RSA.token("")) == REFUSED


def part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def signed_with_public_key(form: str) -> str:
    """An HS256 token whose secret is the issuer's public key, as everybody has it."""
    public = RSA.private.public_key()
    encoding = serialization.Encoding.PEM if form == "pem" else serialization.Encoding.DER
    secret = public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    body = RSA.token("root").split(".")[1]
    head = part(b'{"alg":"HS256","kid":"RS256"}')
    mac = hmac.digest(secret, f"{head}.{body}".encode(), hashlib.sha256)
    return f"{head}.{body}.{part(mac)}"


def relabelled(token: str, header: bytes) -> str:
    return ".".join([part(header), *token.split(".")[1:]])


FORGED = {
    "public key as secret, PEM": signed_with_public_key("pem"),
    "public key as secret, DER": signed_with_public_key("der"),
    "the secret's, and there is no secret": token_for("root"),
    "alg none": relabelled(RSA.token("root"), b'{"alg":"none","kid":"RS256"}'),
    "another algorithm": relabelled(RSA.token("root"), b'{"alg":"RS512","kid":"RS256"}'),
    "an algorithm that is a list": relabelled(RSA.token("root"), b'{"alg":["RS256"]}'),
    "another key's name": EC.token("root", headers={"kid": "RS256"}),
    "another key of that name": IssuerKey.new("RS256", "RS256").token("root"),
    "a key of another kind of that name": IssuerKey.new("ES256", "RS256").token("root"),
    "no name among several keys": RSA.token("root", headers={"kid": None}),
    "a name that is a path": RSA.token("root", headers={"kid": "../../RS256"}),
    "a key of its own": NEXT.token("root", headers={"jwk": NEXT.published()}),
    "a set of its own": NEXT.token("root", headers={"jku": "http://127.0.0.1/", "kid": None}),
    "a critical header": RSA.token("root", headers={"crit": ["x"], "x": 1}),
    "no end": jwt.encode({"sub": "root"}, RSA.private, "RS256", headers={"kid": "RS256"}),
}


async def test_forged_tokens_are_refused_alike(settings: Settings) -> None:
    """Byte for byte, so that nobody learns why; and few of them are worth a fetch."""
    async with trusting(settings, RSA, EC) as (gateway, issuer), gateway.client(None) as anybody:
        reference = await anybody.get("/v1/agents")
        for name, token in FORGED.items():
            headers = {"Authorization": f"Bearer {token}"}
            response = await anybody.get("/v1/agents", headers=headers)
            assert problem_of(response) == REFUSED, name
            assert response.content == reference.content, name
        assert await answer(gateway, RSA.token("alice")) == (200, "")
        assert issuer.asked == 1


async def test_audience_and_issuer_are_checked_as_well(settings: Settings) -> None:
    strict = settings.model_copy(update={"auth_audience": "headwater", "auth_issuer": "us"})
    async with trusting(strict, ED) as (gateway, _):
        assert await answer(gateway, ED.token("alice", aud="headwater", iss="us")) == (200, "")
        others: list[dict[str, Any]] = [{"aud": "other", "iss": "us"}, {"aud": "headwater"}, {}]
        for claims in others:
            assert await answer(gateway, ED.token("alice", **claims)) == REFUSED


async def test_a_lone_key_needs_no_name(settings: Settings) -> None:
    async with trusting(settings, EC) as (gateway, _):
        assert await answer(gateway, EC.token("alice", headers={"kid": None})) == (200, "")


# ── fetching ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def short_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_fetching, "REST_SECONDS", SHORT_REST_SECONDS)


@pytest.mark.usefixtures("short_rest")
async def test_a_new_key_is_fetched_when_it_is_needed(settings: Settings) -> None:
    async with trusting(settings, RSA) as (gateway, issuer):
        issuer.body = key_set(RSA, NEXT)
        await rested(gateway)
        assert issuer.asked == 1
        assert await answer(gateway, NEXT.token("alice")) == (200, "")
        assert issuer.asked == 2


@pytest.mark.usefixtures("short_rest")
async def test_a_new_key_that_was_missed_is_fetched_after_the_rest(settings: Settings) -> None:
    """Without anybody's asking again: the first one to come then is let in at once."""
    async with trusting(settings, RSA) as (gateway, issuer):
        issuer.body = key_set(RSA, NEXT)
        assert await answer(gateway, NEXT.token("alice")) == REFUSED
        await eventually(lambda: issuer.asked == 2)
        assert await answer(gateway, NEXT.token("alice")) == (200, "")


@pytest.mark.usefixtures("short_rest")
async def test_a_fetch_that_began_too_early_is_made_again(settings: Settings) -> None:
    async with trusting(settings, RSA) as (gateway, issuer):
        await rested(gateway)
        issuer.open.clear()
        early = asyncio.create_task(answer(gateway, NEXT.token("alice")))
        await eventually(lambda: issuer.asked == 2)
        issuer.open.set()
        assert await soon(early) == REFUSED
        issuer.body = key_set(RSA, NEXT)
        await eventually(lambda: issuer.asked == 3)
        assert await answer(gateway, NEXT.token("alice")) == (200, "")


async def test_a_key_taken_back_is_refused_after_the_next_refresh(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_fetching, "REST_SECONDS", 0.1)
    monkeypatch.setattr(key_fetching, "REFRESH_SECONDS", 0.2)
    async with trusting(settings, RSA, EC) as (gateway, issuer):
        assert await answer(gateway, RSA.token("alice")) == (200, "")
        issuer.body = key_set(EC)
        asked = issuer.asked
        await eventually(lambda: issuer.asked > asked + 1)
        assert await answer(gateway, RSA.token("alice")) == REFUSED
        assert await answer(gateway, EC.token("alice")) == (200, "")


async def test_made_up_names_cost_the_issuer_one_fetch_per_rest(settings: Settings) -> None:
    """And the gateway no waiting: with the real pause of half a minute, all are told at once."""
    async with trusting(settings, RSA) as (gateway, issuer):
        began = time.monotonic()
        tokens = [RSA.token("root", headers={"kid": f"made up {n}"}) for n in range(100)]
        answers = await soon(asyncio.gather(*(answer(gateway, token) for token in tokens)))
        assert set(answers) == {REFUSED}
        assert issuer.asked == 1
        assert time.monotonic() - began < key_fetching.REST_SECONDS / 2
        assert key_fetching.REST_SECONDS >= 30


@pytest.mark.usefixtures("short_rest")
async def test_who_waits_for_a_key_waits_alone_and_together(settings: Settings) -> None:
    async with trusting(settings, RSA) as (gateway, issuer):
        issuer.body = key_set(RSA, NEXT)
        await rested(gateway)
        issuer.open.clear()
        waiting = [asyncio.create_task(answer(gateway, NEXT.token("new"))) for _ in range(16)]
        await eventually(lambda: issuer.asked == 2)
        for token in [RSA.token("known")] * 10:
            assert await answer(gateway, token) == (200, "")
        assert not any(task.done() for task in waiting)
        issuer.open.set()
        assert set(await soon(asyncio.gather(*waiting))) == {(200, "")}
        assert issuer.asked == 2
