"""The OpenAPI document: valid, complete, and true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio

from services.api.problems import CODES
from tests.integration.api.gateways import Running

OPEN = {"/healthz", "/readyz", "/metrics"}
STREAMS = {
    ("get", "/v1/threads/{thread_id}/events", "200"),
    ("get", "/v1/jobs/{job_id}/events", "200"),
    ("post", "/v1/threads/{thread_id}/messages", "200"),
    ("post", "/v1/jobs", "200"),
}
SURFACE = {
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/v1/agents": {"get"},
    "/v1/jobs": {"post"},
    "/v1/jobs/{job_id}": {"get"},
    "/v1/jobs/{job_id}/cancel": {"post"},
    "/v1/search/messages": {"get"},
    "/v1/jobs/{job_id}/events": {"get"},
    "/v1/threads": {"get", "post"},
    "/v1/threads/{thread_id}": {"get", "patch", "delete"},
    "/v1/threads/{thread_id}/events": {"get"},
    "/v1/threads/{thread_id}/messages": {"get", "post"},
    "/v1/threads/{thread_id}/messages/{message_id}": {"get", "delete"},
    "/v1/threads/{thread_id}/read": {"post"},
    "/v1/threads/{thread_id}/participants/{user}": {"put", "delete"},
    "/v1/tickets": {"post"},
}
NAME_A_THING = {"/v1/jobs", "/v1/search/messages", "/v1/tickets"}  # in their bodies or queries
PROBLEM = {"$ref": "#/components/schemas/Problem"}
ASSET = re.compile(r"""(?:src|href)\s*=\s*["']([^"']+)["']""")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def document(gateway: Running) -> Any:
    async with gateway.client(None) as anybody:
        return await anybody.ok("GET", "/schema/openapi.json")


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Method, path, operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, inner in node.items():
            if name == "$ref":
                yield inner
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


async def test_it_has_every_call(document: Any) -> None:
    described = {path: set(item) for path, item in document["paths"].items()}
    assert SURFACE.items() <= described.items()
    assert document["openapi"].startswith("3.1")
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for _, _, operation in operations(document))


async def test_every_reference_leads_somewhere(document: Any) -> None:
    for reference in references(document):
        node = document
        for name in reference.removeprefix("#/").split("/"):
            node = node[name]
        assert node


async def test_every_path_parameter_is_described(document: Any) -> None:
    for _, path, operation in operations(document):
        named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


async def test_security_is_marked(document: Any) -> None:
    bearer, ticket = (document["components"]["securitySchemes"][n] for n in ("bearer", "ticket"))
    assert (bearer["type"], bearer["scheme"]) == ("http", "bearer")
    assert (ticket["type"], ticket["in"], ticket["name"]) == ("apiKey", "query", "ticket")
    assert "security" not in document
    for _, path, operation in operations(document):
        tokens = [] if path in OPEN else [{"bearer": []}]
        tickets = [{"ticket": []}] if path.endswith("/events") else []
        assert (operation.get("security") or []) == tokens + tickets, path


async def test_errors_are_problems(document: Any) -> None:
    """One schema for all of them, and the codes that can occur."""
    for method, path, operation in operations(document):
        if path in OPEN:
            continue
        answers = operation["responses"]
        assert {"400", "401", "503"} <= answers.keys(), path
        for status, answer in answers.items():
            if status < "400":
                continue
            assert answer["content"] == {"application/problem+json": {"schema": PROBLEM}}
            codes = re.findall(r"`(\w+)`", answer["description"])
            assert codes, (method, path, status)
            assert {CODES[code] for code in codes} == {int(status)}
        assert ("404" in answers) == ("{" in path or path in NAME_A_THING), path
        assert ("413" in answers) == ("requestBody" in operation), path
        assert ("415" in answers) == ("requestBody" in operation), path
    problem = document["components"]["schemas"]["Problem"]
    assert set(problem["properties"]["code"]["enum"]) == set(CODES)
    assert {"type", "title", "status", "code", "detail"} <= set(problem["required"])


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("post", "/v1/threads", {"422"}),
        ("post", "/v1/jobs", {"404", "409", "422", "429"}),
        ("post", "/v1/threads/{thread_id}/messages", {"404", "409", "422", "429"}),
    ],
)
async def test_what_a_post_may_be_refused_for(
    document: Any, method: str, path: str, statuses: set[str]
) -> None:
    assert statuses <= document["paths"][path][method]["responses"].keys()


async def test_streams_are_event_streams(document: Any) -> None:
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            is_stream = "text/event-stream" in (answer.get("content") or {})
            assert is_stream == ((method, path, status) in STREAMS), (method, path, status)
    pages = document["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    assert pages.keys() == {"text/event-stream", "application/json"}


async def test_the_page_loads_nothing_from_elsewhere(gateway: Running) -> None:
    async with gateway.client(None) as anybody:
        page = await anybody.get("/schema")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page.text)
        assets = ASSET.findall(page.text)
        assert len(assets) >= 4
        for asset in assets:
            assert asset.startswith("/schema/assets/")
            found = await anybody.get(asset)
            assert found.status_code == 200
            assert len(found.content) > 100
