"""Who may come in. Every refusal reads the same, so that nobody learns which check failed."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio

from shared.settings import Settings
from tests.integration.api.gateways import (
    SECRET,
    Running,
    problem_of,
    running_gateway,
    settings_for,
    token_for,
)

NOW = int(time.time())
LATER = NOW + 3600


def signed(claims: dict[str, Any], *, key: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


GOOD = signed({"sub": "alice", "exp": LATER})
HEAD, BODY, SIGNATURE = GOOD.split(".")
BAD_HEADERS: dict[str, list[str]] = {
    "none": [],
    "empty": [""],
    "no scheme": [GOOD],
    "another scheme": [f"Basic {GOOD}"],
    "scheme alone": ["Bearer"],
    "twice": [f"Bearer {GOOD}", f"Bearer {GOOD}"],
    "two in one": [f"Bearer {GOOD}, Bearer {GOOD}"],
}
BAD_TOKENS: dict[str, str] = {
    "garbage": "garbage",
    "dots": "..",
    "no signature": f"{HEAD}.{BODY}.",
    "another signature": f"{HEAD}.{BODY}.{SIGNATURE[::-1]}",
    "another body": f"{HEAD}.{part({'sub': 'root', 'exp': LATER})}.{SIGNATURE}",
    "alg none": f"{part({'alg': 'none', 'typ': 'JWT'})}.{BODY}.",
    "alg none, signed": f"{part({'alg': 'none'})}.{BODY}.{SIGNATURE}",
    "alg HS512": signed({"sub": "alice", "exp": LATER}, algorithm="HS512"),
    "another key": signed({"sub": "alice", "exp": LATER}, key="another key of thirty-two bytes!"),
    "expired": signed({"sub": "alice", "exp": NOW - 60}),
    "no exp": signed({"sub": "alice"}),
    "exp is a text": signed({"sub": "alice", "exp": "soon"}),
    "exp is infinite": signed({"sub": "alice", "exp": float("inf")}),
    "exp is null": signed({"sub": "alice", "exp": None}),
    "not yet": signed({"sub": "alice", "exp": LATER, "nbf": LATER}),
    "issued tomorrow": signed({"sub": "alice", "exp": LATER, "iat": NOW + 86400}),
    "no sub": signed({"exp": LATER}),
    "empty sub": signed({"sub": "", "exp": LATER}),
    "long sub": signed({"sub": "x" * 129, "exp": LATER}),
    "10 kB": signed({"sub": "alice", "exp": LATER, "x": "y" * 10_000}),
    **{
        f"sub {character!r}": signed({"sub": f"al{character}ice", "exp": LATER})
        for character in "\0\n\r\t\x1b\x7f\u2028\u200b\ud800\ufdd0"
    },
}


async def get(gateway: Running, headers: list[str], path: str = "/v1/threads") -> httpx.Response:
    async with gateway.client(None) as anybody:
        named = [("Authorization", header) for header in headers]
        return await anybody.get(path, headers=named)


async def check_refused(gateway: Running, headers: list[str]) -> None:
    response = await get(gateway, headers)
    reference = await get(gateway, [])
    assert problem_of(response) == (401, "unauthorized")
    assert response.content == reference.content
    assert response.headers["WWW-Authenticate"] == "Bearer"
    names = [name for name in response.headers if name != "x-request-id"]
    assert names == [name for name in reference.headers if name != "x-request-id"]


@pytest.mark.parametrize("headers", BAD_HEADERS.values(), ids=BAD_HEADERS)
async def test_a_bad_header_is_refused(gateway: Running, headers: list[str]) -> None:
    await check_refused(gateway, headers)


@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_a_bad_token_is_refused(gateway: Running, token: str) -> None:
    await check_refused(gateway, [f"Bearer {token}"])


@pytest.mark.parametrize(
    "user", ["a", "x" * 128, "a b", "ü:{}*?[", "用户", "a/../b", "'; DROP TABLE threads; --"]
)
async def test_a_good_token_is_its_users(gateway: Running, user: str) -> None:
    async with gateway.client(user) as client:
        made = await client.ok("POST", "/v1/threads", json={"title": user})
        items = (await client.ok("GET", "/v1/threads"))["items"]
    assert made["thread_id"] in {item["thread_id"] for item in items}
    assert {item["title"] for item in items} == {user}


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
async def test_the_scheme_is_read_as_http_says(gateway: Running, scheme: str) -> None:
    assert (await get(gateway, [f"{scheme} {GOOD}"])).status_code == 200


@pytest.mark.parametrize("headers", [[], [f"Bearer {GOOD}"]], ids=["alone", "beside a header"])
@pytest.mark.parametrize("name", ["token", "access_token", "Authorization", "ticket", "x"])
async def test_a_token_in_the_query_is_refused(
    gateway: Running, name: str, headers: list[str]
) -> None:
    """In whatever disguise, and before it is read: so nobody builds a client that works so."""
    for written in (GOOD, f"Bearer%20{GOOD}", GOOD.replace("e", "%65"), f"{HEAD}.{BODY}."):
        for path in ("/v1/threads", "/v1/jobs/job_0/events"):
            response = await get(gateway, headers, f"{path}?after=0&{name}={written}")
            assert problem_of(response) == (400, "token_in_url")
            assert HEAD not in response.text


async def test_who_is_refused_is_refused_before_anything_is_looked_at(gateway: Running) -> None:
    async with gateway.client(None) as anybody:
        for path, body in (("/v1/threads", b"{"), ("/v1/jobs", b"x" * 2_000_000)):
            assert await anybody.problem("POST", path, content=body) == (401, "unauthorized")
        path = "/v1/threads/thr_0/events?after=x"
        assert await anybody.problem("GET", path) == (401, "unauthorized")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict_gateway(settings: Settings) -> AsyncGenerator[Running]:
    """One that asks for an audience and an issuer."""
    redis_url, database_url = settings.required("redis_url"), settings.required("database_url")
    strict = settings_for(redis_url, database_url, auth_audience="headwater", auth_issuer="us")
    async with running_gateway(strict) as running:
        yield running


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"aud": "headwater"},
        {"iss": "us"},
        {"aud": "other-service", "iss": "us"},
        {"aud": "headwater", "iss": "evil"},
        {"aud": ["other"], "iss": "us"},
        {"aud": None, "iss": "us"},
    ],
)
async def test_another_audience_or_issuer_is_refused(
    strict_gateway: Running, claims: dict[str, Any]
) -> None:
    await check_refused(strict_gateway, [f"Bearer {token_for('alice', **claims)}"])


async def test_the_right_audience_and_issuer_come_in(strict_gateway: Running) -> None:
    for audience in ("headwater", ["other", "headwater"]):
        token = token_for("alice", aud=audience, iss="us")
        assert (await get(strict_gateway, [f"Bearer {token}"])).status_code == 200
