"""Text of every kind, in every field that takes one: given back as it came, or refused by name."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any
from urllib.parse import quote

import pytest

from shared.settings import Settings
from tests.integration.api.gateways import Client, Running, problem_of
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.worker import Worker

ODD = {
    "CRLF": "a\r\nSet-Cookie: b=c\r\n\r\nHTTP/1.1 200 OK",
    "a stream's own lines": "a\n\ndata: b\nevent: done\nid: 99\n\n",
    "controls": "".join(map(chr, (*range(1, 32), 127, *range(0x80, 0xA0)))),
    "separator of columns": "a\x1eb\x1e\x1ec",
    "escapes of a terminal": "\x1b[2J\x1b]0;title\x07",
    "bidi": "\u202eevil\u202c \u2066a\u2069 \u200f\u061c",
    "separators of lines": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "joined": "👩\u200d👩\u200d👧\u200d👦 🏴\U000e0067\U000e007f e\u0301" + "\u0489" * 50,
    "not characters": "\ufffe\uffff\ufdd0\U0010ffff\ufeff",
    "variants of one": "ﬀ Å Å A\u030a ₩ Ω Ω",
    "markup": "</script><img src=x onerror=alert(1)>'\";--${7*7}{{7*7}}%s%n",
    "what looks like escapes": "\\u0000 \\x00 \\ud800 \\r\\n %00 %0d%0a &#0;",
    "JSON": '{"type":"done","seq":1}',
    "blank": " \t\u00a0\u3000",
}
NUL = b'"a\\u0000b"'
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
async def test_text_is_given_back_as_it_came(
    client: Client, worker: Worker, settings: Settings, text: str
) -> None:
    """From Redis, as events, and from Postgres; as an answer, too."""
    metadata = {text: {"inner": [text, {text: text}]}}
    made = await client.ok("POST", "/v1/threads", json={"title": text, "metadata": metadata})
    thread = f"/v1/threads/{made['thread_id']}"
    asked = {"content": text, "metadata": metadata}
    job_id = (await client.ok("POST", f"{thread}/messages", json=asked))["job_id"]
    await worker.answer(job_id, [text, text])
    for where in ("redis", "archive"):
        if where == "archive":
            await archive_all(settings, worker.redis)
            await let_go(worker, made["thread_id"])
        found = await client.ok("GET", thread)
        assert (found["title"], found["metadata"]) == (text, metadata), where
        question, answer = (await client.ok("GET", f"{thread}/messages"))["items"]
        assert (question["content"], question["metadata"]) == (text, metadata), where
        assert answer["content"] == text + text, where
        async with client.stream_events(f"/v1/jobs/{job_id}/events") as stream:
            events = [json.loads(event.data or "") async for event in stream]
        assert [event["type"] for event in events] == ["started", "token", "token", "done"], where
        assert events[-1]["content"] == text + text, where


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/threads", b'{"title":%b}', "title"),
        ("/v1/threads", b'{"metadata":{"a":%b}}', "metadata"),
        ("/v1/threads", b'{"metadata":{%b:1}}', "metadata"),
        ("/v1/threads", b'{"agent":%b}', "agent"),
        ("/v1/jobs", b'{"query":%b}', "query"),
        ("/v1/jobs", b'{"query":"a","metadata":{"a":[%b]}}', "metadata"),
        ("/v1/jobs", b'{"query":"a","on_busy":%b}', "on_busy"),
    ],
)
async def test_what_cannot_be_kept_is_refused_by_name(
    client: Client, path: str, body: bytes, field: str
) -> None:
    response = await client.post(path, content=body % NUL, headers=JSON)
    assert problem_of(response) == (400, "invalid_request")
    said = response.json()
    assert field in [error["field"] for error in said["errors"]], said
    assert "a\0b" not in response.text


@pytest.mark.parametrize("text", ["a\0b", "", "x" * 201])
async def test_a_search_that_is_refused(client: Client, text: str) -> None:
    response = await client.get(f"/v1/search/messages?q={quote(text)}")
    assert problem_of(response) == (400, "invalid_request")


@pytest.mark.parametrize("text", [*ODD.values(), "%ff", "'", "a & | ! ( ) : *", "\\", "%"])
async def test_a_search_for_anything_is_a_search(client: Client, text: str) -> None:
    path = f"/v1/search/messages?q={quote(text[:200], safe='%' if text == '%ff' else '')}"
    assert (await client.ok("GET", path))["items"] == []


@pytest.mark.parametrize("key", ["a\r\nb", "\x7f", "é", "a\tb", "\u202e", "x" * 256, ""])
async def test_an_idempotency_key_that_is_refused(client: Client, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode().replace(b"\r\n", b"\x01"))]
    response = await client.post("/v1/threads", json={}, headers=headers)
    assert response.status_code == 400
    assert "b" not in response.headers.get("idempotency-key", "")


@pytest.mark.parametrize("key", ["{hw:0}:log", "* ? [a]", '"; DROP TABLE', "a:b:c", "{{7*7}}"])
async def test_an_idempotency_key_of_any_visible_form(client: Client, key: str) -> None:
    headers = {"Idempotency-Key": key}
    one, other = [await client.post("/v1/threads", json={}, headers=headers) for _ in range(2)]
    assert (one.status_code, one.json()) == (201, other.json())


@pytest.mark.parametrize("session", ["a b", "x" * 129, "é", "<b>", "a;b"])
async def test_a_session_id_of_another_form_is_none(
    client: Client, worker: Worker, session: str
) -> None:
    headers = {"X-Session-Id": session.encode()}
    accepted = await client.ok("POST", "/v1/jobs", json={"query": "a"}, headers=headers)
    [_, posted] = await worker.records(accepted["thread_id"])
    assert json.loads(posted.data)["session_id"] is None


@pytest.mark.parametrize(
    "name", ["a\nb", "a\0", "\u202e", "\u200b", "x" * 129, "a\u2028b", "\ufeff"]
)
async def test_a_participant_nobody_can_be(client: Client, name: str) -> None:
    made = await client.ok("POST", "/v1/threads", json={})
    path = f"/v1/threads/{made['thread_id']}/participants/{quote(name, safe='')}"
    assert await client.problem("PUT", path) == (400, "invalid_request")


@pytest.mark.parametrize(
    "name", ["ünïcode", "한국어", "a b", "a'b\"c", "{hw:0}", "%00", "..", "😀"]
)
async def test_a_participant_of_an_odd_name(gateway: Running, client: Client, name: str) -> None:
    name = f"{name}{secrets.token_hex(3)}"
    made = await client.ok("POST", "/v1/threads", json={})
    path = f"/v1/threads/{made['thread_id']}"
    found = await client.ok("PUT", f"{path}/participants/{quote(name, safe='')}")
    assert found["participants"] == [name]
    async with gateway.client(name) as guest:
        assert (await guest.ok("GET", path))["participants"] == [name]
        assert [t["thread_id"] for t in (await guest.ok("GET", "/v1/threads"))["items"]] == [
            made["thread_id"]
        ]


DEEP = b'{"metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"
HEAVY: dict[str, bytes] = {
    "deep objects": DEEP,
    "deep lists": b'{"metadata":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "deep and not closed": b"[" * 1_000_000,
    "a number of a hundred thousand digits": b'{"metadata":{"a":' + b"9" * 100_000 + b"}}",
    "the same with an exponent": b'{"metadata":{"a":1e100000}}',
    "digits behind the point": b'{"metadata":{"a":1.' + b"9" * 500_000 + b"e999}}",
    "a hundred thousand fields": b"{" + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}",
    "colliding fields": b"{" + b",".join(b'"title":"%d"' % n for n in range(60_000)) + b',"x":1}',
    "in UTF-16": '{"title":"a"}'.encode("utf-16"),
    "in UTF-32": '{"title":"a"}'.encode("utf-32"),
    "behind a byte order mark": b'\xef\xbb\xbf{"title":"a"}',
    "overlong": b'{"title":"\xc0\x80"}',
    "surrogates as UTF-8": b'{"title":"\xed\xa0\x80"}',
    "beyond Unicode": b'{"title":"\xf4\x90\x80\x80"}',
    "control characters unescaped": b'{"title":"a\nb"}',
    "comments": b'{"title":"a"/**/}',
    "half a pair": b'{"title":"\\ud800"}',
    "a pair the wrong way": b'{"title":"\\udfff\\ud800"}',
    "single quotes": b"{'title':'a'}",
}


@pytest.mark.parametrize("body", HEAVY.values(), ids=HEAVY)
async def test_a_body_that_is_heavy_or_odd(client: Client, body: bytes) -> None:
    """Refused, in little time, in few words."""
    began = time.process_time()
    response = await client.post("/v1/threads", content=body, headers=JSON)
    spent = time.process_time() - began
    assert problem_of(response) == (400, "invalid_request")
    assert len(response.content) < 5000
    assert spent < 1.5


async def test_of_fields_that_are_there_twice_the_last_one_counts(client: Client) -> None:
    """As in a browser: what is checked is what is kept."""
    body = b'{"title":"a","title":"b","metadata":{"a":1},"metadata":{"b":2}}'
    made = await client.ok("POST", "/v1/threads", content=body, headers=JSON)
    assert (made["title"], made["metadata"]) == ("b", {"b": 2})


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, identity", "x"])
async def test_a_body_that_is_packed(client: Client, encoding: str) -> None:
    """Nothing is unpacked here, so nothing can be made to grow."""
    headers = JSON | {"Content-Encoding": encoding}
    response = await client.post("/v1/threads", content=b"{}", headers=headers)
    assert problem_of(response) == (415, "unsupported_media_type")


@pytest.mark.parametrize("charset", ["utf-16", "latin-1", "x"])
async def test_a_body_in_another_charset(client: Client, charset: str) -> None:
    headers: Any = {"Content-Type": f"application/json; charset={charset}"}
    response = await client.post("/v1/threads", content=b"{}", headers=headers)
    assert problem_of(response) == (415, "unsupported_media_type")
