"""Requests that no library would send: one answer, then the end; never a second request inside."""

from __future__ import annotations

import json
import tracemalloc
from itertools import repeat

import pytest

from services.api.answer_fields import FIELDS
from services.api.connections import FIELDS_MAX, HEAD_BYTES_MAX
from services.api.problems import CODES
from tests.integration.api.gateways import Client, Running, token_for
from tests.integration.api.raw_http import Heard, tell

HOST = b"Host: x\r\n"
SMUGGLED = b"GET /v1/agents HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v1/threads HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
MALFORMED = {
    "length and chunks": POST + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and length": POST + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}" + SMUGGLED,
    "the same length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED,
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}" + SMUGGLED,
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}" + SMUGGLED,
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}" + SMUGGLED,
    "a length in hexadecimal": POST + b"Content-Length: 0x2\r\n\r\n{}" + SMUGGLED,
    "a length beyond numbers": POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n{}",
    "an unknown encoding": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + SMUGGLED,
    "chunked, but not at last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + SMUGGLED,
    "chunked twice": POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "a tab before chunked": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks in HTTP/1.0": b"POST /v1/threads HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "a folded field": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n" + SMUGGLED,
    "a space before the colon": b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n" + SMUGGLED,
    "a field without a name": b"GET / HTTP/1.1\r\n" + HOST + b": b\r\n\r\n" + SMUGGLED,
    "NUL in a field": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\x00c\r\n\r\n" + SMUGGLED,
    "CR in a field": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\rc\r\n\r\n" + SMUGGLED,
    "lines end with LF": b"GET /healthz HTTP/1.1\nHost: x\n\n",
    "a field ends with LF": b"GET /healthz HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\n" + HOST + b"Host: y\r\n\r\n",
    "a space in the path": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "no path": b"GET HTTP/1.1\r\n" + HOST + b"\r\n",
    "another protocol": b"GET / HTTP/3.0\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
    "an unknown method": b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "no size of a chunk": POST + CHUNKED + b"\r\n\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "a size that is none": POST + CHUNKED + b"\r\nzz\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "a size beyond numbers": POST + CHUNKED + b"\r\n" + b"f" * 20 + b"\r\n{}\r\n",
    "a chunk longer than it says": POST + CHUNKED + b"\r\n1\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk ends with LF": POST + CHUNKED + b"\r\n2\r\n{}\n0\r\n\r\n" + SMUGGLED,
    "LF in a chunk's extension": POST + CHUNKED + b"\r\n2;a\nb\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
}
LARGE = {
    "a path": b"GET /" + b"a" * HEAD_BYTES_MAX + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a field": b"GET / HTTP/1.1\r\nA: " + b"a" * 2 * HEAD_BYTES_MAX + b"\r\n" + HOST + b"\r\n",
    "many fields": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * FIELDS_MAX + HOST + b"\r\n",
}


def problem_in(heard: Heard) -> tuple[int, str]:
    """Of the one answer, which must have all the fields that any answer has."""
    assert len(heard.statuses) == 1, heard.text
    head, body = heard.text.split(b"\r\n\r\n", 1)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert fields[b"content-type"] == b"application/problem+json"
    assert fields[b"connection"] == b"close"
    assert int(fields[b"content-length"]) == len(body)
    assert FIELDS.keys() <= fields.keys()
    found = json.loads(body)
    assert found["status"] == heard.statuses[0] == CODES[found["code"]]
    return found["status"], found["code"]


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_request(gateway: Running, request_: bytes) -> None:
    assert problem_in(await tell(gateway.url, request_)) == (400, "malformed_request")


@pytest.mark.parametrize("request_", LARGE.values(), ids=LARGE)
async def test_a_head_that_is_too_large(gateway: Running, request_: bytes) -> None:
    assert problem_in(await tell(gateway.url, request_)) == (431, "head_too_large")


ENDLESS = {
    "method": b"",
    "path": b"GET /",
    "field": b"GET / HTTP/1.1\r\nHost: x\r\nA: ",
    "extension": POST + CHUNKED + b"\r\n2;",
    "trailer": POST + CHUNKED + b"\r\n2\r\n{}\r\n0\r\nA: ",
}


@pytest.mark.parametrize("beginning", ENDLESS.values(), ids=ENDLESS)
async def test_what_never_ends_is_cut_off(gateway: Running, beginning: bytes) -> None:
    """And is not kept: 16 MiB of it cost next to nothing."""
    piece = b"A" * 65_536
    tracemalloc.start()
    try:
        heard = await tell(gateway.url, beginning, *repeat(piece, 256))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(heard.statuses) <= 1  # the answer may be lost, as what was sent was never read
    assert most < 8 * 1024 * 1024


def authorized(user: str) -> bytes:
    return f"Authorization: Bearer {token_for(user)}\r\n".encode()


async def test_pipelined_requests_are_answered_in_order(gateway: Running) -> None:
    paths = [b"/healthz", b"/nowhere", b"/readyz", b"/v1/threads"]
    requests = [b"GET %b HTTP/1.1\r\n%b\r\n" % (path, HOST) for path in paths]
    last = b"GET /healthz HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    heard = await tell(gateway.url, b"".join(requests) + last)
    assert heard.statuses == [200, 404, 200, 401, 200]


async def test_what_stands_behind_a_malformed_request_is_never_done(
    gateway: Running, client: Client, user: str
) -> None:
    """Also a good request: nobody can say where it begins."""
    good = POST + authorized(user) + b"Content-Length: 2\r\n\r\n{}"
    for bad in (MALFORMED["length and chunks"], MALFORMED["a folded field"]):
        heard = await tell(gateway.url, bad.removesuffix(SMUGGLED) + good)
        assert heard.statuses == [400]
    assert (await client.ok("GET", "/v1/threads"))["items"] == []


async def test_a_malformed_request_does_not_answer_the_one_before(
    gateway: Running, user: str
) -> None:
    """Which is under way: the connection ends, and nobody takes the refusal for its answer."""
    good = POST + authorized(user) + b"Content-Length: 2\r\n\r\n{}"
    heard = await tell(gateway.url, good + b"GET / HTTP/1.1\r\n\r\n")
    assert 400 not in heard.statuses


async def test_a_request_of_http_1_0(gateway: Running) -> None:
    heard = await tell(gateway.url, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert heard.statuses == [200]
    assert b"transfer-encoding" not in heard.text.lower()


@pytest.mark.parametrize("target", [b"http://elsewhere/healthz", b"http://x:1/healthz?a=b"])
async def test_a_target_in_absolute_form(gateway: Running, target: bytes) -> None:
    fields = b"Connection: close\r\n" + HOST
    heard = await tell(gateway.url, b"GET " + target + b" HTTP/1.1\r\n" + fields + b"\r\n")
    assert heard.statuses == [200]
    assert b"elsewhere" not in heard.text


async def test_fields_behind_a_body_are_not_those_of_the_request(
    gateway: Running, user: str
) -> None:
    body = b"\r\n2\r\n{}\r\n0\r\n" + authorized(user) + b"X-Request-Id: trailing\r\n\r\n"
    heard = await tell(gateway.url, POST + b"Connection: close\r\n" + CHUNKED + body)
    assert heard.statuses == [401]
    assert b"trailing" not in heard.text


async def test_an_upgrade_that_nobody_offers(gateway: Running, user: str) -> None:
    fields = b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n" + HOST
    heard = await tell(gateway.url, b"GET /healthz HTTP/1.1\r\n" + fields + b"\r\n")
    assert heard.statuses == [200]


async def test_a_length_that_is_too_great_is_refused_unread(gateway: Running, user: str) -> None:
    head = POST + authorized(user) + b"Connection: close\r\nContent-Length: 99999999999\r\n\r\n"
    assert (await tell(gateway.url, head)).statuses == [413]


async def test_a_body_in_many_chunks(gateway: Running, user: str) -> None:
    body = b"".join(b"1;ext=%d\r\n%c\r\n" % (n, c) for n, c in enumerate(b'{"title":"abc"}'))
    head = POST + authorized(user) + b"Connection: close\r\n" + CHUNKED + b"\r\n"
    assert (await tell(gateway.url, head, body, b"0\r\n\r\n")).statuses == [201]
