"""What is refused, and how: a problem with a stable code, never a trace of what went wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.api.app import BODY_BYTES_MAX
from services.api.bodies import (
    MESSAGE_CHARS_MAX,
    METADATA_BYTES_MAX,
    METADATA_DEPTH_MAX,
    TITLE_CHARS_MAX,
)
from services.api.described_json import INTEGER_MAX
from tests.integration.api.gateways import Client, Running, problem_of
from tests.integration.api.worker import Worker

JSON = {"Content-Type": "application/json"}


def nested(depth: int, value: str = "1") -> bytes:
    """Metadata this many levels deep, the outermost counted."""
    return b'{"metadata":' + b'{"a":' * depth + value.encode() + b"}" * depth + b"}"


BAD_BODIES = {
    "nothing": b"",
    "no JSON": b'{"title":',
    "two values": b"{} {}",
    "null": b"null",
    "a list": b"[]",
    "not UTF-8": b'{"title":"\xff"}',
    "unknown field": b'{"titel":"x"}',
    "state is not the client's": b'{"state":"ACTIVE"}',
    "a thousand unknown fields": json.dumps({f"f{n}": 1 for n in range(1000)}).encode(),
    "a number for a text": b'{"title":5}',
    "empty title": b'{"title":""}',
    "long title": json.dumps({"title": "x" * (TITLE_CHARS_MAX + 1)}).encode(),
    "NUL": b'{"title":"a\\u0000b"}',
    "half a pair": b'{"title":"\\ud800"}',
    "other half": b'{"title":"a\\udc00b"}',
    "metadata is a list": b'{"metadata":[]}',
    "NUL in metadata": b'{"metadata":{"a":["\\u0000"]}}',
    "NUL in a name": b'{"metadata":{"a":{"\\u0000":1}}}',
    "half a pair in metadata": b'{"metadata":{"a":"\\ud800"}}',
    "infinity": b'{"metadata":{"a":1e999}}',
    "not a number": b'{"metadata":{"a":NaN}}',
    "large integer": b'{"metadata":{"a":' + str(INTEGER_MAX + 1).encode() + b"}}",
    "huge integer": b'{"metadata":{"a":' + b"9" * 5000 + b"}}",
    "large metadata": json.dumps({"metadata": {"a": "x" * METADATA_BYTES_MAX}}).encode(),
    "deep metadata": nested(METADATA_DEPTH_MAX + 1),
    "very deep metadata": nested(5000),
    "odd agent": b'{"agent":"a b"}',
}
GOOD_BODIES = {
    "a pair": b'{"title":"\\ud83d\\ude00"}',
    "what looks like an escape": b'{"metadata":{"a":"\\\\u0000 \\\\x00 \\\\ud800"}}',
    "deep enough": nested(METADATA_DEPTH_MAX),
    "large enough": b'{"metadata":{"a":-%d}}' % INTEGER_MAX,
    "a great number": b'{"metadata":{"a":1e300}}',
    "as large as it may be": json.dumps({"title": "ü" * TITLE_CHARS_MAX}).encode(),
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_bad_body(client: Client, body: bytes) -> None:
    response = await client.post("/v1/threads", content=body, headers=JSON)
    assert problem_of(response) == (400, "invalid_request")
    assert len(response.content) < 5000


@pytest.mark.parametrize("body", GOOD_BODIES.values(), ids=GOOD_BODIES)
async def test_good_body(client: Client, body: bytes) -> None:
    made = await client.ok("POST", "/v1/threads", content=body, headers=JSON)
    said = json.loads(body)
    path = f"/v1/threads/{made['thread_id']}"
    assert {name: made[name] for name in said} == said
    assert await client.ok("GET", path) == made


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"agent": "nobody"}, "unknown_agent"),
        ({"content": ""}, "invalid_request"),
        ({"content": "x" * (MESSAGE_CHARS_MAX + 1)}, "invalid_request"),
        ({"content": "a\0"}, "invalid_request"),
        ({"content": None}, "invalid_request"),
        ({"on_busy": "panic"}, "invalid_request"),
        ({"stream": "perhaps"}, "invalid_request"),
        ({"role": "assistant"}, "invalid_request"),
        ({"thread_id": "thr_0"}, "invalid_request"),
    ],
)
async def test_bad_message(client: Client, body: Any, code: str) -> None:
    made = await client.ok("POST", "/v1/threads", json={})
    path = f"/v1/threads/{made['thread_id']}/messages"
    assert await client.problem("POST", path, json={"content": "hi"} | body) == (400, code)
    assert (await client.ok("GET", path))["total"] == 0


async def test_the_longest_message(client: Client, worker: Worker) -> None:
    query = "\U0001f600" * MESSAGE_CHARS_MAX
    attempt = await worker.ask(client, query)
    assert attempt.command.content == query


@pytest.mark.parametrize("body", [{}, {"title": None}])
async def test_a_change_of_nothing(client: Client, body: Any) -> None:
    made = await client.ok("POST", "/v1/threads", json={})
    path = f"/v1/threads/{made['thread_id']}"
    assert await client.problem("PATCH", path, json=body) == (400, "nothing_to_change")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large(client: Client, chunked: bool) -> None:
    body = b'{"title":"' + b"x" * 10 * BODY_BYTES_MAX + b'"}'

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    response = await client.post("/v1/threads", content=chunks() if chunked else body, headers=JSON)
    assert problem_of(response) == (413, "body_too_large")
    assert (await client.get("/v1/threads")).status_code == 200


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/json", 201),
        ("application/json; charset=utf-8", 201),
        ("APPLICATION/JSON", 201),
        (None, 201),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonx", 415),
        ("", 415),
    ],
)
async def test_content_types(client: Client, media_type: str | None, status: int) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    response = await client.post("/v1/threads", content=b"{}", headers=headers)
    assert response.status_code == status
    if status == 415:
        assert problem_of(response) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1e9",
        "limit=99999999999999999999",
        "status=gone",
        "agent=%00",
        "agent=a%20b",
        "agent=ü",
    ],
)
async def test_bad_query_of_a_list(client: Client, query: str) -> None:
    assert await client.problem("GET", f"/v1/threads?{query}") == (400, "invalid_request")


@pytest.mark.parametrize(
    "cursor",
    ["x", "%00", "%ff", "%F0%9F%98%80", "A" * 5000, "bnVsbA", "W10", "MjAyNi0xMy0wMQ", "===="],
)
async def test_bad_cursor_of_a_list(client: Client, cursor: str) -> None:
    assert await client.problem("GET", f"/v1/threads?cursor={cursor}") == (400, "bad_cursor")


@pytest.mark.parametrize(
    "place",
    [
        "x",
        "%00",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-13-01T00:00:00Z",
        "1",
        "msg_0",
        "thr_0",
        "msg_0000000000000000000000000000000000",
    ],
)
@pytest.mark.parametrize("side", ["before", "after"])
async def test_bad_place_of_messages(client: Client, side: str, place: str) -> None:
    made = await client.ok("POST", "/v1/threads", json={})
    path = f"/v1/threads/{made['thread_id']}/messages?{side}={place}"
    assert await client.problem("GET", path) == (400, "bad_cursor")


async def test_two_places_of_messages(client: Client) -> None:
    made = await client.ok("POST", "/v1/threads", json={})
    path = f"/v1/threads/{made['thread_id']}/messages"
    both = "before=2026-01-01T00:00:00Z&after=2026-01-01T00:00:00Z"
    assert await client.problem("GET", f"{path}?{both}") == (400, "bad_cursor")
    assert await client.problem("GET", f"{path}?limit=201") == (400, "invalid_request")


@pytest.mark.parametrize(
    "cursor", ["-1", "1.5", "x", "1e3", "+1", "%D9%A1", "9" * 16, "9" * 400, "0x1", "1%201"]
)
@pytest.mark.parametrize("path", ["/v1/jobs/{job}/events", "/v1/threads/{thread}/events"])
async def test_bad_cursor_of_events(client: Client, worker: Worker, path: str, cursor: str) -> None:
    attempt = await worker.ask(client)
    path = path.format(job=attempt.lease.job_id, thread=attempt.lease.thread_id)
    assert await client.problem("GET", f"{path}?after={cursor}") == (400, "bad_cursor")
    if "%" not in cursor:
        header = {"Last-Event-ID": cursor}
        assert await client.problem("GET", path, headers=header) == (400, "bad_cursor")


@pytest.mark.parametrize("query", ["format=xml", "limit=0", "limit=1001", "format="])
async def test_bad_query_of_events(client: Client, worker: Worker, query: str) -> None:
    attempt = await worker.ask(client)
    path = f"/v1/jobs/{attempt.lease.job_id}/events?{query}"
    assert await client.problem("GET", path) == (400, "invalid_request")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v2/threads",
        "/v1/threads/a/b/c",
        "/..",
        "/%00",
        "/.env",
        "/schemas",
        "/schema/assets/none.js",
        "/schema/assets/..%2f..%2fapp.py",
    ],
)
async def test_unknown_path(gateway: Running, client: Client, path: str) -> None:
    """The same for everybody, so that nobody learns what is there."""
    async with gateway.client(None) as anybody:
        answers = [await one.get(path) for one in (client, anybody)]
    assert problem_of(answers[0]) == (404, "not_found")
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
async def test_a_method_that_is_not_allowed(gateway: Running, method: str) -> None:
    async with gateway.client(None) as anybody:
        response = await anybody.request(method, "/v1/threads")
    if method != "HEAD":
        assert problem_of(response) == (405, "method_not_allowed")
    assert response.status_code == 405
    assert {"GET", "POST"} <= {name.strip() for name in response.headers["Allow"].split(",")}


@pytest.mark.parametrize(
    "thing",
    [
        "x",
        "%00",
        "%ff",
        "%2e%2e%2f",
        "%F0%9F%98%80",
        "thr_0000000000000000000000000000000G",
        "thr_0",
        "thr_00000000000000000000000000000000",
        "THR_00000000000000000000000000000000",
        "job_0000000000000000000000000000000000",
        "job_ffffffffffffffffffffffffffffffffff",
    ],
)
@pytest.mark.parametrize("path", ["/v1/threads/{}", "/v1/threads/{}/messages", "/v1/jobs/{}"])
async def test_an_id_of_nothing(client: Client, path: str, thing: str) -> None:
    assert await client.problem("GET", path.format(thing)) == (404, "not_found")
