"""Downloads: whole, in ranges, not at all; and never anything that a browser would run."""

from __future__ import annotations

from email.message import Message

import pytest

from shared.file_store import FileStore
from shared.settings import Settings
from tests.integration.api.gateways import Client, problem_of, running_gateway
from tests.integration.api.uploading import add
from tests.support.sample_files import pdf, picture

TEXT = b"0123456789"
PAGE = b"<html><script>alert(document.domain)</script></html>"
DRAWING = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
POLYGLOT = b"GIF89a/*" + PAGE + b"*/=1"


@pytest.mark.parametrize(
    ("content", "media_type", "kind"),
    [
        (PAGE, "text/plain; charset=utf-8", "attachment"),
        (DRAWING, "text/plain; charset=utf-8", "attachment"),
        (pdf(["hi"]), "application/pdf", "attachment"),
        (POLYGLOT, "image/gif", "inline"),
        (picture(), "image/png", "inline"),
    ],
    ids=["page", "drawing", "pdf", "polyglot", "picture"],
)
async def test_nothing_is_run(client: Client, content: bytes, media_type: str, kind: str) -> None:
    added = await add(client, content, 'x".html')
    urls = [added["file_url"], *filter(None, [added["thumbnail_url"]])]
    for url in urls:
        headers = (await client.get(url)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert headers["cache-control"] == "private, no-cache"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    headers = (await client.get(urls[0])).headers
    assert headers["content-type"] == media_type
    assert headers["content-disposition"].partition(";")[0] == kind


@pytest.mark.parametrize(
    "name",
    ["a.txt", "한국어.txt", 'q"uo\\te.txt', "100%25.txt", "a;b=c.txt", "../../x", "x\ty\u202e"],
)
async def test_a_name_comes_back_as_it_was_kept(client: Client, name: str) -> None:
    added = await add(client, TEXT, name)
    header = (await client.get(added["file_url"])).headers["content-disposition"]
    read = Message()
    read["Content-Disposition"] = header.replace("filename=", "plain=")
    assert read.get_filename() == added["file_info"]["name"]
    assert "\n" not in header


@pytest.mark.parametrize(
    ("asked", "status", "content", "said"),
    [
        ("bytes=2-5", 206, b"2345", "bytes 2-5/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-1", 206, b"9", "bytes 9-9/10"),
        ("bytes=0-99", 206, TEXT, "bytes 0-9/10"),
        ("bytes=0-1,4-5", 200, TEXT, None),
        ("pages=1-2", 200, TEXT, None),
    ],
)
async def test_a_range(
    client: Client, asked: str, status: int, content: bytes, said: str | None
) -> None:
    url = (await add(client, TEXT))["file_url"]
    got = await client.get(url, headers={"Range": asked})
    assert (got.status_code, got.content) == (status, content)
    assert got.headers.get("content-range") == said
    assert got.headers["accept-ranges"] == "bytes"
    assert got.headers["content-length"] == str(len(content))


async def test_a_range_behind_the_end(client: Client) -> None:
    url = (await add(client, TEXT))["file_url"]
    got = await client.get(url, headers={"Range": "bytes=10-"})
    assert problem_of(got) == (416, "range_not_satisfiable")
    assert got.headers["content-range"] == "bytes */10"


async def test_a_client_that_has_it(client: Client) -> None:
    added = await add(client, picture())
    for url in (added["file_url"], added["thumbnail_url"]):
        etag = (await client.get(url)).headers["etag"]
        again = await client.get(url, headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    url, etag = added["file_url"], (await client.get(added["file_url"])).headers["etag"]
    for if_range, status in ((etag, 206), ('"other"', 200)):
        headers = {"Range": "bytes=0-3", "If-Range": if_range}
        assert (await client.get(url, headers=headers)).status_code == status


async def test_an_object_that_is_lost_is_not_found(client: Client, settings: Settings) -> None:
    added = await add(client, picture())
    await FileStore(settings.files_location).remove_file(added["file_id"])
    for url in (added["file_url"], added["thumbnail_url"]):
        assert await client.problem("GET", url) == (404, "not_found")


async def test_a_store_that_is_away(settings: Settings, user: str) -> None:
    async with running_gateway(settings) as good, running_gateway(_refused(settings)) as running:
        async with good.client(user) as client:
            added = await add(client, TEXT)
        async with running.client(user) as client:
            assert await client.problem("GET", added["file_url"]) == (503, "files_unavailable")
            thread_id = (await client.ok("POST", "/v1/threads", json={}))["thread_id"]
            path, files = f"/v1/threads/{thread_id}/files", {"file": ("a", TEXT)}
            refused = await client.problem("POST", path, files=files)
            assert refused == (503, "files_unavailable")
            assert (await client.ok("GET", f"/v1/threads/{thread_id}"))["last_position"] == 1


def _refused(settings: Settings) -> Settings:
    """A folder below a file: nothing can be kept there."""
    blocked = settings.data_dir / "blocked"
    blocked.write_bytes(b"")
    return settings.model_copy(update={"data_dir": blocked, "files_url": None})
