"""What every answer carries, and which pages of other origins may read it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncGenerator
from hashlib import sha256

import httpx
import pytest
import pytest_asyncio

from services.api.answer_fields import FIELDS
from shared.settings import Settings
from tests.integration.api.gateways import Client, Running, problem_of, running_gateway

OURS, THEIRS = "https://app.example", "https://evil.example"
ASKED_FIRST = {
    "Origin": OURS,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,x-session-id",
}
REQUESTS = [
    ("GET", "/healthz", 200),
    ("GET", "/readyz", 200),
    ("GET", "/metrics", 200),
    ("GET", "/nowhere", 404),
    ("PUT", "/v1/threads", 405),
    ("OPTIONS", "/v1/threads", 204),
    ("GET", "/v1/threads", 401),
    ("GET", "/schema/openapi.json", 200),
    ("GET", "/schema/nothing", 404),
    ("GET", "/schema/assets/swagger-ui.css", 200),
    ("HEAD", "/v1/threads", 405),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def listing(settings: Settings) -> AsyncGenerator[Running]:
    """A gateway that knows one origin."""
    async with running_gateway(settings.model_copy(update={"cors_origins": (OURS,)})) as running:
        yield running


def vary_of(response: httpx.Response) -> list[str]:
    return [name.strip() for name in response.headers.get("vary", "").split(",")]


def cors_of(response: httpx.Response) -> dict[str, str]:
    named = response.headers.items()
    return {name: value for name, value in named if name.startswith("access-control-")}


@pytest.mark.parametrize(("method", "path", "status"), REQUESTS)
async def test_every_answer_has_its_fields(
    gateway: Running, method: str, path: str, status: int
) -> None:
    async with gateway.client(None) as anybody:
        response = await anybody.request(method, path)
    assert response.status_code == status
    for name, value in FIELDS.items():
        assert response.headers.get_list(name.decode()) == [value.decode()], name
    is_open = path.startswith("/schema")
    assert response.headers.get_list("cache-control") == ([] if is_open else ["no-store"])
    assert "server" not in response.headers
    assert len(response.headers["x-request-id"]) > 8


async def test_answers_of_users_and_streams_have_them_too(client: Client) -> None:
    made = await client.post("/v1/threads", json={})
    async with client.stream("GET", f"/v1/threads/{made.json()['thread_id']}/events") as stream:
        for response in (made, stream):
            assert response.headers.get_list("cache-control") == ["no-store"]
            assert response.headers["x-content-type-options"] == "nosniff"


async def test_the_page_may_run_what_it_says_and_nothing_else(gateway: Running) -> None:
    async with gateway.client(None) as anybody:
        page = await anybody.get("/schema")
    [policy] = page.headers.get_list("content-security-policy")
    [script] = re.findall(r"<script type='text/javascript'>(.*?)</script>", page.text, re.DOTALL)
    assert f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in policy
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == allowed["frame-ancestors"] == "'none'"
    assert "unsafe" not in allowed["script-src"]
    assert "http" not in policy


@pytest.mark.parametrize("path", ["/v1/threads", "/schema", "/schema/openapi.json", "/v1/jobs"])
async def test_options_names_all_methods(gateway: Running, path: str) -> None:
    async with gateway.client(None) as anybody:
        named = (await anybody.options(path)).headers.get_list("allow")
        refused = await anybody.request("TRACE", path)
    assert len(named) == 1
    assert refused.status_code == 405
    said = {name.strip() for name in refused.headers["allow"].split(",")}
    assert {name.strip() for name in named[0].split(",")} == said


async def test_a_page_of_ours_may_read_answers(listing: Running, user: str) -> None:
    async with listing.client(user) as client:
        for method, path, status in (
            ("GET", "/v1/threads", 200),
            ("GET", "/v1/threads/x", 404),
            ("PUT", "/v1/threads", 405),
            ("GET", "/nowhere", 404),
        ):
            response = await client.request(method, path, headers={"Origin": OURS})
            assert response.status_code == status
            assert response.headers.get_list("access-control-allow-origin") == [OURS]
            exposed = response.headers["access-control-expose-headers"].lower()
            needed = "location retry-after ratelimit ratelimit-policy x-request-id etag"
            assert set(needed.split()) <= set(exposed.split(", "))
            assert "Origin" in vary_of(response)
            assert "access-control-allow-credentials" not in response.headers


async def test_a_preflight(listing: Running) -> None:
    async with listing.client(None) as anybody:
        for path in ("/v1/threads", "/v1/threads/x/participants/y", "/v1/search/messages"):
            response = await anybody.options(path, headers=ASKED_FIRST)
            assert response.status_code == 204
            fields = response.headers
            assert fields["access-control-allow-origin"] == OURS
            assert "POST" in fields["access-control-allow-methods"].split(", ")
            allowed = set(fields["access-control-allow-headers"].lower().split(", "))
            assert set(ASKED_FIRST["Access-Control-Request-Headers"].split(",")) <= allowed
            assert "*" not in "".join(cors_of(response).values())
            assert "access-control-allow-credentials" not in fields
            assert int(fields["access-control-max-age"]) > 0


@pytest.mark.parametrize(
    "origin",
    [THEIRS, "null", "https://app.example.evil.example", "http://app.example", f"{OURS}:8443", ""],
)
async def test_pages_of_others_may_not(listing: Running, user: str, origin: str) -> None:
    async with listing.client(user) as client:
        asked = await client.options("/v1/threads", headers=ASKED_FIRST | {"Origin": origin})
        read = await client.get("/v1/threads", headers={"Origin": origin})
    for response in (asked, read):
        assert cors_of(response) == {}
        assert "Origin" in vary_of(response)
    assert (asked.status_code, read.status_code) == (204, 200)


async def test_without_a_list_nobody_may(gateway: Running, client: Client) -> None:
    for response in (
        await client.options("/v1/threads", headers=ASKED_FIRST),
        await client.get("/v1/threads", headers={"Origin": OURS}),
    ):
        assert cors_of(response) == {}


@pytest.mark.parametrize(
    "given",
    ["<script>alert(1)</script>", "a b", "x" * 129, "ü", "a;b", "%0d%0aX: y", ""],
)
async def test_what_is_no_request_id_is_not_given_back(client: Client, given: str) -> None:
    response = await client.get("/v1/threads", headers=[(b"X-Request-Id", given.encode())])
    [given_back] = response.headers.get_list("x-request-id")
    assert re.fullmatch(r"[0-9a-f]{16}", given_back)


@pytest.mark.parametrize("where", ["/{}", "/v1/threads/{}", "/v1/threads?status={}", "/schema/{}"])
async def test_a_refusal_does_not_repeat_what_it_was_sent(client: Client, where: str) -> None:
    response = await client.get(where.format("%3Cscript%3Ealert(1)%3C%2Fscript%3E"))
    problem_of(response)
    assert "script" not in response.text
    assert "script" not in str(response.headers)


async def test_a_field_that_is_not_known_is_named_as_json(client: Client) -> None:
    """It is the client's own word; as JSON, and never taken for a page."""
    response = await client.post("/v1/threads", json={"</script>\r\nX: y": 1})
    assert problem_of(response) == (400, "invalid_request")
    assert b"\r\n" not in response.content
    assert response.headers["x-content-type-options"] == "nosniff"
